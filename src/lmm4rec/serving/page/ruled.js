// A list by a rule set: what the rules do, what they changed, what they left out.

import { picture } from "./cards.js";
import { el } from "./dom.js";
import { link } from "./place.js";

const items = (count) => `${count.toLocaleString()} ${count === 1 ? "item" : "items"}`;
const OTHERS = "others rank above it by the rules"; // the service's word for an item that no single rule removed
const total = (changes, what) => changes.reduce((sum, one) => sum + one[what], 0);

/** That the newest rule file was refused, and why. */
export const refused = (error) => el("p", { class: "wrong refused", role: "status" }, `The newest rule file was refused, and the earlier rules stay: ${error}`);

/** Which rules changed the list, in a line each, with what the others of the set do. */
export function changes(applied, set) {
  const did = applied.changes.map(({ rule, moved, removed }) => {
    const words = [moved && `${items(moved)} moved`, removed && `${items(removed)} removed`].filter(Boolean);
    return el("li", {}, el("span", { class: "rule" }, rule === OTHERS ? "places went to other items" : rule), " ", el("small", {}, words.join(", ") || "applies, moved nothing"));
  });
  const summary = `Rules ${applied.name}: ${items(total(applied.changes, "removed"))} removed, ${total(applied.changes, "moved")} moved`;
  const all = el("ul", { class: "does" }, ...(set?.does ?? []).map((one) => el("li", {}, one)));
  return el("details", { class: "ruled", open: matchMedia("(min-width: 40rem)").matches },
    el("summary", {}, did.length ? summary : `Rules ${applied.name}: nothing changed here`),
    did.length > 0 && el("ul", { class: "did", "aria-label": "rules that changed the list" }, ...did),
    set && el("p", { class: "hint" }, `The whole set, which leaves ${items(set.items)}:`), all);
}

/** Items that would be in the list without rules, each with the rule because of which it is not. */
export function leftOut(applied, bundle) {
  if (!applied.left_out.length) return null;
  const one = (item) =>
    el("li", {},
      el("a", { class: "card small", href: link({ item: item.id, from: bundle }), "data-item": item.id },
        el("span", { class: "pic" }, picture(item, { size: 96 }), el("span", { class: "rank", "aria-hidden": "true" }, String(item.place))),
        el("span", { class: "name" }, item.title), el("span", { class: "why-not" }, item.rule === OTHERS ? "its place went to another" : item.rule)));
  return el("div", { class: "left-out" }, el("h3", {}, "Left out by the rules"), el("ul", { class: "strip", "aria-label": "left out by the rules" }, ...applied.left_out.map(one)));
}

/** What a card says of the rules that apply to its item. */
export function moved(item, place) {
  if (!item.rules) return null;
  const before = item.place_without_rules;
  const from = before === place ? null : before === null ? "not listed without rules" : `${before > place ? "↑" : "↓"} from place ${before}`;
  if (!item.rules.length && before !== null) return null;
  return el("span", { class: "moved" }, from && el("b", { class: before === null || before > place ? "up" : "down" }, from), ...item.rules.map((rule) => el("span", { class: "rule" }, rule)));
}
