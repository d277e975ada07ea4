// One item in a dialog: its picture and words, why it suits the person, what is like it.

import * as api from "./api.js";
import { grid, picture, shareRows, waiting } from "./cards.js";
import { el, toast } from "./dom.js";
import { go, link } from "./place.js";
import { state } from "./state.js";

let asked = 0;

export async function showItem(dialog, { item, user, info, writing, changed }) {
  if (!item) {
    asked += 1;
    if (dialog.open) dialog.close();
    return;
  }
  const mine = (asked += 1);
  const bundle = info.name;
  let detail;
  try {
    detail = await api.detail(item, { bundle });
  } catch (error) {
    toast(error.message);
    if (mine === asked) go({ item: "", from: "" }, { replace: true });
    return;
  }
  if (mine !== asked) return;
  const why = el("div", { class: "why" });
  const audience = el("div", { class: "why" });
  const near = el("div", { class: "alike" }, el("h3", {}, "Similar"), waiting(8, true));
  dialog.replaceChildren(
    el("button", { type: "button", class: "close", "aria-label": "Close", "data-close": true }, "×"),
    el("div", { class: "detail" },
      el("div", { class: "pic" }, picture(detail, { lazy: false }), detail.added && el("span", { class: "badge" }, "new")),
      el("div", { class: "facts" },
        el("h2", { id: "item-title" }, detail.title),
        el("p", { class: "hint" }, detail.id),
        words(detail),
        why,
        audience,
        detail.added && writing !== "off" && removal(detail, { bundle, writing, changed }))),
    near,
  );
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  fill(near, async () => {
    const { items } = await api.similar(item, { k: 12, bundle });
    return [el("h3", {}, "Similar"), grid(items, { bundle, small: true, label: "similar items" })];
  }, () => mine === asked);
  fill(audience, async () => people(await api.audience(item, { bundle })), () => mine === asked);
  if (info.can.explain && user) {
    fill(why, async () => reasons(await api.explain({ user, item, bundle }), user, bundle), () => mine === asked);
  }
}

async function fill(node, load, wanted) {
  try {
    const content = await load();
    if (wanted()) node.replaceChildren(...content);
  } catch (error) {
    if (wanted()) node.replaceChildren(el("p", { class: "wrong" }, error.message));
  }
}

function words(detail) {
  const rest = Object.entries(detail.fields).filter(([name, text]) => text && name !== "title");
  if (!rest.length) return null;
  return el("dl", {}, ...rest.flatMap(([name, text]) => [el("dt", {}, name), el("dd", {}, text)]));
}

function reasons(reason, user, bundle) {
  const parts = [el("h3", {}, `For ${user}`), shareRows(reason.shares)];
  if (reason.nearest.length) {
    parts.push(
      el("p", { class: "hint" }, `Nearest of what ${user} has`),
      grid(reason.nearest.slice(0, 6), { bundle, small: true, label: `nearest of what ${user} has` }),
    );
  }
  return parts;
}

/** The people who get the item among their first ones. */
function people({ k, people: all, asked: among }) {
  const place = ["st", "nd", "rd"];
  const links = all.slice(0, 8).map(({ id, rank }) =>
    el("li", {}, el("a", { href: link({ user: id, item: "", from: "", words: "" }) }, id, el("small", {}, ` ${rank}${place[rank - 1] ?? "th"}`))));
  const whole = among.toLocaleString();
  const count = `${all.length ? `${all.length.toLocaleString()} of ${whole} people get` : `Nobody of ${whole} people gets`} it in their top ${k}`;
  return [el("p", { class: "hint" }, count), el("ul", { class: "people", "aria-label": "people who get it" }, ...links)];
}

function removal(detail, { bundle, writing, changed }) {
  const token = writing === "token" && el("input", { type: "password", placeholder: "Token", "aria-label": "Token", autocomplete: "off", value: state.token });
  const remove = async () => {
    try {
      await api.deleteItem(detail.id, { bundle, token: token ? token.value : "" });
    } catch (error) {
      toast(error.message);
      return;
    }
    toast(`“${detail.title}” is deleted`);
    go({ item: "", from: "" });
    await changed();
  };
  const bar = el("div", { class: "actions" });
  const button = (words, onclick, kind) => el("button", { type: "button", class: kind, onclick }, words);
  const rest = () => bar.replaceChildren(button("Delete", confirm, "quiet"));
  const confirm = () => {
    const keep = button("Keep it", () => (rest(), bar.firstChild.focus()), "quiet");
    bar.replaceChildren(...[el("p", { class: "hint" }, "Delete this item for good?"), token, keep, button("Delete it", remove, "danger")].filter(Boolean));
    (token || keep).focus();
  };
  rest();
  return bar;
}
