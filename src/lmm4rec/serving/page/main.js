// The page: reads the address, asks the service, shows what comes.

import * as api from "./api.js";
import { setUpAdding } from "./adding.js";
import { catalog } from "./catalog.js";
import { byId, closable, el } from "./dom.js";
import { finding } from "./finding.js";
import { home, showUnknown } from "./home.js";
import { showItem } from "./item.js";
import { models } from "./models.js";
import { setUpPeople } from "./people.js";
import { go, link, place } from "./place.js";
import { chosen, info, refreshBundles, state } from "./state.js";

const LOADING_MS = 1000; // between two looks at whether the encoders are loaded
const HOME = { view: "", q: "", page: "", words: "", item: "", from: "" };
const main = byId("main");
let current = new AbortController();
let shown = "";

// ---- what the address says

async function draw() {
  const { item, from, ...rest } = place();
  const { user, words, view } = rest;
  const key = JSON.stringify([rest, state.photo?.name, state.photo?.size, state.revision]);
  if (key === shown) return;
  shown = key;
  current.abort();
  current = new AbortController();
  const { signal } = current;
  byId("person").value = user;
  byId("words").value = words;
  const searching = words || state.photo;
  const titles = { catalog: "Catalog", models: "Models" };
  document.title = `${words ? `“${words}”` : state.photo ? "Like the photo" : (titles[view] ?? `For ${user}`)} · lmm4rec`;
  main.setAttribute("aria-busy", "true");
  if (searching) main.replaceChildren(...finding(user, signal, clearSearch));
  else if (view === "catalog") main.replaceChildren(...catalog(signal));
  else if (view === "models") main.replaceChildren(...models(signal));
  else main.replaceChildren(...home(user, signal, () => unknown(user)));
  main.setAttribute("aria-busy", "false");
  scrollTo({ top: 0 });
}

/** Show the message on an unknown person, once for all sections that asked. */
async function unknown(user) {
  current.abort();
  current = new AbortController();
  try {
    await showUnknown(main, user, current.signal);
  } catch (error) {
    if (error.name !== "AbortError") main.append(el("p", { class: "wrong" }, error.message));
  }
}

async function follow() {
  const { user, item, from } = place();
  if (!user) {
    const first = await api.users({ limit: 1, bundle: chosen()[0] });
    go({ user: first.users[0]?.id ?? "" }, { replace: true });
    return;
  }
  showChoices();
  draw();
  await showItem(byId("item"), { item, user, info: info(from || chosen()[0]), writing: state.writing, changed });
}

async function changed() {
  await refreshBundles();
  state.revision += 1;
  await follow();
}

/** Searches are offered when the encoders are loaded. */
function awaitEncoders() {
  if (!state.bundles.some((one) => one.loading)) return;
  setTimeout(async () => {
    try {
      await refreshBundles();
      showChoices();
      if (place().view === "models") {
        state.revision += 1;
        draw();
      }
    } finally {
      awaitEncoders(); // also after a failure: the service may be back later
    }
  }, LOADING_MS);
}

function clearSearch() {
  state.photo = null;
  byId("photo").value = "";
  if (place().words || place().taste) go({ words: "", taste: "" });
  else draw();
}

function searchPhoto(file) {
  state.photo = file;
  const before = location.hash;
  go(HOME);
  if (location.hash === before) draw();
}

/** Fill the header: choices of models, what can be searched and added, where one is. */
function showChoices() {
  const [first, second] = chosen();
  const { user, view, words, scores } = place();
  const several = state.bundles.length > 1;
  for (const node of document.querySelectorAll(".several")) node.hidden = !several;
  const options = (names, now) => names.map((one) => el("option", { value: one.name, selected: one.name === now }, one.title));
  byId("bundle").replaceChildren(...options(state.bundles, first));
  byId("beside").replaceChildren(el("option", { value: "" }, "none"), ...options(state.bundles.filter((one) => one.name !== first), second));
  byId("scores").checked = Boolean(scores);
  byId("rules-choice").hidden = !state.rules.length || Boolean(words || state.photo || view);
  byId("rules").replaceChildren(el("option", { value: "" }, "none"), ...state.rules.map(({ name }) => el("option", { value: name, selected: name === place().rules }, name)));
  byId("token-choice").hidden = state.writing !== "token";
  byId("options").replaceChildren(el("span", {}, several ? `${user} · ${info(first).title}` : user));
  byId("photo-label").hidden = !chosen().some((name) => info(name).can.search_picture);
  byId("words").placeholder = byId("photo-label").hidden ? "Search by words" : "Search by words or a photo";
  byId("add").hidden = state.writing === "off" || !chosen().some((name) => info(name).can.add_items);
  document.body.dataset.view = view;
  const here = words || state.photo ? null : view;
  const views = [["", "For you"], ["catalog", "Catalog"], ["models", "Models"]];
  byId("views").replaceChildren(...views.map(([one, title]) => el("a", { href: link({ ...HOME, view: one }), "aria-current": one === here && "page" }, title)));
}

// ---- what people do

function setUpSearch() {
  byId("search").addEventListener("submit", (event) => {
    event.preventDefault();
    const words = byId("words").value.trim();
    state.photo = null;
    if (words) go({ ...HOME, words });
    else clearSearch();
  });
  byId("words").addEventListener("search", () => byId("words").value === "" && place().words && clearSearch());
  byId("photo").addEventListener("change", ({ target }) => target.files[0] && searchPhoto(target.files[0]));
  byId("views").addEventListener("click", ({ target }) => {
    if (target.closest("a")) state.photo = null;
    if (target.closest("a")?.getAttribute("href") === location.hash) draw(); // back from a photo: the address is the same
  });
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

function setUpChoices() {
  byId("bundle").addEventListener("change", ({ target }) => go({ bundle: target.value, beside: place().beside === target.value ? "" : place().beside }));
  byId("beside").addEventListener("change", ({ target }) => go({ beside: target.value }));
  byId("rules").addEventListener("change", ({ target }) => go({ rules: target.value }));
  byId("token-choice").addEventListener("submit", (event) => event.preventDefault());
  byId("token").addEventListener("input", ({ target }) => (state.token = target.value));
  byId("token").addEventListener("change", () => place().view === "models" && ((state.revision += 1), draw()));
  byId("scores").addEventListener("change", ({ target }) => go({ scores: target.checked ? "1" : "" }));
  byId("anyone").addEventListener("click", async () => {
    const { name, users } = info(chosen()[0]);
    const offset = Math.floor(Math.random() * users);
    const [one] = (await api.users({ offset, limit: 1, bundle: name })).users;
    go({ ...HOME, user: one.id });
  });
  byId("options").addEventListener("click", ({ currentTarget }) => {
    const open = byId("choices").classList.toggle("open");
    currentTarget.setAttribute("aria-expanded", String(open));
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
  setUpChoices();
  setUpPeople({ bundle: () => chosen()[0], choose: (user) => go({ ...HOME, user }) });
  setUpAdding({ bundles: () => chosen().map(info).filter((one) => one.can.add_items), writing: () => state.writing, changed });
  closable(byId("item"));
  byId("item").addEventListener("close", () => place().item && go({ item: "", from: "" }));
  const { data, items, users } = state.bundles[0];
  byId("about").textContent = ` · ${data}: ${items.toLocaleString()} items, ${users.toLocaleString()} people`;
  addEventListener("hashchange", follow);
  await follow();
  awaitEncoders();
}

start();
