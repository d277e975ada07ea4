// All items, page by page, or those with some words in title or id.

import * as api from "./api.js";
import { grid } from "./cards.js";
import { el } from "./dom.js";
import { go, link, place } from "./place.js";
import { filled, modelOf } from "./sections.js";
import { chosen, info } from "./state.js";

const ON_PAGE = 48;

export function catalog(signal) {
  const { q } = place();
  const input = el("input", { type: "search", name: "q", value: q, maxlength: 200, autocomplete: "off", placeholder: "Part of a title or id", "aria-label": "Items whose title or id contains" });
  const form = el("form", { class: "filter", role: "search" }, input, el("button", { type: "submit", class: "quiet" }, "Filter"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    go({ q: input.value.trim(), page: "" });
  });
  input.addEventListener("search", () => input.value === "" && place().q && go({ q: "", page: "" }));
  const name = chosen()[0];
  const node = filled({ title: "Catalog", name: modelOf(name), count: ON_PAGE / 4, load: () => listed(name, signal), signal });
  return [el("div", { class: "browse" }, node, form)];
}

async function listed(name, signal) {
  const { q, page } = place();
  const last = (total) => Math.max(1, Math.ceil(total / ON_PAGE));
  const now = Math.max(1, Number.parseInt(page, 10) || 1);
  const { items, total } = await api.items({ q, offset: (now - 1) * ON_PAGE, limit: ON_PAGE, bundle: name }, signal);
  if (!total) return [el("p", { class: "hint" }, `No item has “${q}” in its title or id.`)];
  if (!items.length) return [el("p", { class: "hint" }, `There are ${last(total)} pages. `, el("a", { href: link({ page: "" }) }, "To the first one"))];
  const first = (now - 1) * ON_PAGE;
  const range = `${(first + 1).toLocaleString()}–${(first + items.length).toLocaleString()} of ${total.toLocaleString()} items${info(name).added && !q ? ", new ones last" : ""}`;
  return [el("p", { class: "hint" }, range), grid(items, { bundle: name, label: "items of the catalog" }), last(total) > 1 && pages(now, last(total))];
}

function pages(now, last) {
  const to = (page, words, rel) => (page < 1 || page > last ? el("span", { class: "off", "aria-hidden": "true" }, words) : el("a", { href: link({ page: page > 1 ? String(page) : "" }), rel }, words));
  return el("nav", { class: "pages", "aria-label": "pages of the catalog" }, to(now - 1, "← Previous", "prev"), el("span", {}, `Page ${now} of ${last}`), to(now + 1, "Next →", "next"));
}
