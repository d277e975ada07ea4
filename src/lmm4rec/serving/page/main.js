// The page: reads the address, asks the service, shows what comes.

import * as api from "./api.js";
import { setUpAdding } from "./adding.js";
import { grid, legend, waiting } from "./cards.js";
import { byId, closable, el } from "./dom.js";
import { showItem } from "./item.js";
import { setUpPeople } from "./people.js";
import { go, place } from "./place.js";

const SHOWN = 12;
const NEWS = 6;
const main = byId("main");
const state = { bundles: [], writing: "off", photo: null, revision: 0 };
let current = new AbortController();
let shown = "";

const info = (name) => state.bundles.find((one) => one.name === name) ?? state.bundles[0];

function chosen() {
  const { bundle, beside } = place();
  const first = info(bundle).name;
  return beside && beside !== first && info(beside).name === beside ? [first, beside] : [first];
}

async function refreshBundles() {
  Object.assign(state, await api.bundles());
}

// ---- parts of the page

function section(title, name, ...content) {
  const heading = el("h2", {}, title);
  if (name) heading.append(" ", el("small", {}, info(name).title));
  return el("section", {}, heading, ...content);
}

/** A section that shows blanks, then what `load` gives, or what went wrong. */
function filled({ title, name, count = SHOWN, small = false, load, signal }) {
  const node = section(title, name, waiting(count, small));
  load().then(
    (content) => {
      if (signal.aborted) return;
      if (content === null) node.remove();
      else node.replaceChildren(node.firstChild, ...content.filter(Boolean));
    },
    (error) => {
      if (error.name !== "AbortError") node.replaceChildren(node.firstChild, el("p", { class: "wrong" }, error.message));
    },
  );
  return node;
}

function recommended(user, name, signal) {
  const load = async () => {
    const reasons = info(name).can.explain;
    const { items } = await api.recommend(user, { k: SHOWN, reasons, bundle: name }, signal);
    if (!items.length) return [el("p", { class: "hint" }, "Nothing is left to recommend.")];
    return [legend(items), grid(items, { ranked: true, bundle: name, label: `recommended to ${user}` })];
  };
  return filled({ title: `For ${user}`, name: state.bundles.length > 1 && name, load, signal });
}

function liked(user, name, signal) {
  const load = async () => {
    const { items } = await api.history(user, { k: 40, bundle: name }, signal);
    if (!items.length) return [el("p", { class: "hint" }, "Nothing yet.")];
    return [grid(items, { bundle: name, small: true, label: `what ${user} has` })];
  };
  return filled({ title: `What ${user} has`, count: 8, small: true, load, signal });
}

function fresh(user, name, signal) {
  const load = async () => {
    const added = await api.items({ added: true, limit: 50, bundle: name }, signal);
    if (!added.items.length) return null;
    const only = added.items.map((item) => item.id);
    const asked = { only, k: Math.min(only.length, NEWS), reasons: info(name).can.explain, bundle: name };
    const { items } = await api.recommend(user, asked, signal);
    return [grid(items, { ranked: true, bundle: name, label: `new items, best for ${user} first` })];
  };
  return filled({ title: `New, best for ${user} first`, name: state.bundles.length > 1 && name, count: 3, load, signal });
}

function found(name, user, signal) {
  const { words, taste } = place();
  const { can } = info(name);
  const forUser = taste && user ? user : "";
  const load = async () => {
    if (state.photo) {
      if (!can.search_picture) return [el("p", { class: "hint" }, "This model's encoder cannot search by a photo.")];
      const { items } = await api.searchPicture(state.photo, { k: SHOWN, for_user: forUser, bundle: name }, signal);
      return [grid(items, { ranked: true, bundle: name, label: "found" })];
    }
    if (can.search_words) {
      const { items } = await api.search({ text: words, k: SHOWN, for_user: forUser, bundle: name }, signal);
      return [grid(items, { ranked: true, bundle: name, label: "found" })];
    }
    const { items, total } = await api.items({ q: words, limit: 2 * SHOWN, bundle: name }, signal);
    const hint = `${total} ${total === 1 ? "item has" : "items have"} these words in the title. (This model's encoder cannot compare words with pictures.)`;
    return [el("p", { class: "hint" }, hint), grid(items, { bundle: name, label: "found" })];
  };
  return filled({ title: state.photo ? "Like the photo" : `“${words}”`, name: state.bundles.length > 1 && name, load, signal });
}

function searchBar(user) {
  const { taste } = place();
  const bar = el("div", { class: "search-bar" });
  if (state.photo) {
    const preview = el("img", { class: "preview", alt: "the photo", src: URL.createObjectURL(state.photo) });
    preview.addEventListener("load", () => URL.revokeObjectURL(preview.src), { once: true });
    bar.append(preview);
  }
  if (user && chosen().some((name) => info(name).can.search_words || info(name).can.search_picture)) {
    const box = el("input", { type: "checkbox", checked: Boolean(taste) });
    box.addEventListener("change", () => go({ taste: box.checked ? "1" : "" }));
    bar.append(el("label", { class: "check" }, box, ` mix in what ${user} likes`));
  }
  bar.append(el("button", { type: "button", class: "quiet", id: "clear", onclick: clearSearch }, "Back to recommendations"));
  return bar;
}

function panes(make) {
  const names = chosen();
  return el("div", { class: names.length > 1 ? "panes two" : "panes" }, ...names.map(make));
}

// ---- what the address says

async function draw() {
  const { user, words, bundle, beside, taste } = place();
  const key = JSON.stringify([user, words, bundle, beside, taste, state.photo?.name, state.photo?.size, state.revision]);
  if (key === shown) return;
  shown = key;
  current.abort();
  current = new AbortController();
  const { signal } = current;
  byId("person").value = user;
  byId("words").value = words;
  document.title = `${words ? `“${words}”` : state.photo ? "Like the photo" : `For ${user}`} · lmm4rec`;
  main.setAttribute("aria-busy", "true");
  if (words || state.photo) {
    main.replaceChildren(searchBar(user), panes((name) => found(name, user, signal)));
  } else {
    const news = chosen().filter((name) => info(name).added);
    main.replaceChildren(
      liked(user, chosen()[0], signal),
      ...(news.length ? [panes((name) => (news.includes(name) ? fresh(user, name, signal) : el("section")))] : []),
      panes((name) => recommended(user, name, signal)),
    );
  }
  main.setAttribute("aria-busy", "false");
  scrollTo({ top: 0 });
}

async function follow() {
  const { user, item, from } = place();
  if (!user) {
    const first = await api.users({ limit: 1, bundle: chosen()[0] });
    go({ user: first.users[0]?.id ?? "" }, { replace: true });
    return;
  }
  chooseModels();
  draw();
  await showItem(byId("item"), { item, user, info: info(from || chosen()[0]), writing: state.writing, changed });
}

async function changed() {
  await refreshBundles();
  state.revision += 1;
  await follow();
}

function clearSearch() {
  state.photo = null;
  byId("photo").value = "";
  if (place().words || place().taste) go({ words: "", taste: "" });
  else draw();
}

function searchPhoto(file) {
  state.photo = file;
  if (place().words || place().item) go({ words: "", item: "", from: "" });
  else draw();
}

function chooseModels() {
  const [first, second] = chosen();
  const several = state.bundles.length > 1;
  for (const node of document.querySelectorAll(".several")) node.hidden = !several;
  const options = (names, now) => names.map((one) => el("option", { value: one.name, selected: one.name === now }, one.title));
  byId("bundle").replaceChildren(...options(state.bundles, first));
  byId("beside").replaceChildren(el("option", { value: "" }, "none"), ...options(state.bundles.filter((one) => one.name !== first), second));
  byId("photo-label").hidden = !chosen().some((name) => info(name).can.search_picture);
  byId("words").placeholder = byId("photo-label").hidden ? "Search by words" : "Search by words, or drop a photo";
  byId("add").hidden = state.writing === "off" || !chosen().some((name) => info(name).can.add_items);
}

// ---- what people do

function setUpSearch() {
  byId("search").addEventListener("submit", (event) => {
    event.preventDefault();
    const words = byId("words").value.trim();
    state.photo = null;
    if (words) go({ words, item: "", from: "" });
    else clearSearch();
  });
  byId("words").addEventListener("search", () => byId("words").value === "" && place().words && clearSearch());
  byId("photo").addEventListener("change", ({ target }) => target.files[0] && searchPhoto(target.files[0]));
  addEventListener("keydown", (event) => {
    if (event.key === "/" && !event.target.closest("input, select, textarea, dialog")) {
      event.preventDefault();
      byId("words").focus();
    }
  });
}

function setUpDrop() {
  const cover = byId("drop");
  const wanted = (event) => !byId("new").open && !byId("photo-label").hidden && event.dataTransfer?.types.includes("Files");
  addEventListener("dragover", (event) => {
    event.preventDefault(); // a file that misses its place must not replace the page
    if (wanted(event)) cover.hidden = false;
  });
  addEventListener("dragleave", (event) => event.relatedTarget === null && (cover.hidden = true));
  addEventListener("drop", (event) => {
    event.preventDefault();
    cover.hidden = true;
    const file = event.dataTransfer.files[0];
    if (file && wanted(event)) searchPhoto(file);
  });
}

function setUpModels() {
  byId("bundle").addEventListener("change", ({ target }) => go({ bundle: target.value, beside: place().beside === target.value ? "" : place().beside }));
  byId("beside").addEventListener("change", ({ target }) => go({ beside: target.value }));
  byId("anyone").addEventListener("click", async () => {
    const { name, users } = info(chosen()[0]);
    const offset = Math.floor(Math.random() * users);
    const [one] = (await api.users({ offset, limit: 1, bundle: name })).users;
    go({ user: one.id, words: "", item: "", from: "" });
  });
}

async function start() {
  try {
    await refreshBundles();
  } catch (error) {
    main.replaceChildren(el("p", { class: "wrong" }, error.message));
    return;
  }
  setUpSearch();
  setUpDrop();
  setUpModels();
  setUpPeople({ bundle: () => chosen()[0], choose: (user) => go({ user, words: "", item: "", from: "" }) });
  setUpAdding({ bundles: () => chosen().map(info).filter((one) => one.can.add_items), writing: () => state.writing, changed });
  closable(byId("item"));
  byId("item").addEventListener("close", () => place().item && go({ item: "", from: "" }));
  const { data, items, users } = state.bundles[0];
  byId("about").textContent = ` · ${data}: ${items.toLocaleString()} items, ${users.toLocaleString()} people`;
  addEventListener("hashchange", follow);
  await follow();
}

start();
