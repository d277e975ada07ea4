// Search by words or by a photo.

import * as api from "./api.js";
import { grid } from "./cards.js";
import { el } from "./dom.js";
import { go, place } from "./place.js";
import { SHOWN, filled, modelOf, panes, ranked } from "./sections.js";
import { chosen, info, state } from "./state.js";

export function finding(user, signal, clear) {
  return [searchBar(user, clear), panes((name) => found(name, user, signal))];
}

function found(name, user, signal) {
  const { words, taste } = place();
  const { can, loading } = info(name); // while its encoder is loaded, the service lets a search wait
  const more = { for_user: taste && user ? user : "", bundle: name };
  const shown = { bundle: name, label: "found", signal };
  const load = async () => {
    if (state.photo) {
      if (!can.search_picture && !loading) return [el("p", { class: "hint" }, "This model's encoder cannot search by a photo.")];
      return ranked(async (k) => (await api.searchPicture(state.photo, { k, ...more }, signal)).items, shown);
    }
    if (can.search_words || loading) return ranked(async (k) => (await api.search({ text: words, k, ...more }, signal)).items, shown);
    const { items, total } = await api.items({ q: words, limit: 4 * SHOWN, bundle: name }, signal);
    const hint = `${total} ${total === 1 ? "item has" : "items have"} these words in the title. (This model's encoder cannot compare words with pictures.)`;
    return [el("p", { class: "hint" }, hint), grid(items, { bundle: name, label: "found" })];
  };
  return filled({ title: state.photo ? "Like the photo" : `“${words}”`, name: modelOf(name), load, signal });
}

function searchBar(user, clear) {
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
  bar.append(el("button", { type: "button", class: "quiet", id: "clear", onclick: clear }, "Back to recommendations"));
  return bar;
}
