// Two models compared: how much of their lists is the same, and which items each shows more.

import * as api from "./api.js";
import { picture } from "./cards.js";
import { el } from "./dom.js";
import { go, link, place } from "./place.js";
import { filled } from "./sections.js";
import { chosen, info, state } from "./state.js";

const percent = (value) => `${Math.round(100 * value)} %`;

export function comparing(signal) {
  if (state.bundles.length < 2) return null;
  const first = chosen()[0];
  const others = state.bundles.filter((one) => one.name !== first);
  const other = others.find((one) => one.name === place().other)?.name ?? "";
  const select = el("select", { id: "other", "aria-label": `compare ${info(first).title} with` },
    el("option", { value: "" }, "choose a model"), ...others.map((one) => el("option", { value: one.name, selected: one.name === other }, one.title)));
  select.addEventListener("change", () => go({ other: select.value }));
  const choice = el("div", { class: "choice" }, el("label", { for: "other" }, `${info(first).title} and`), select);
  const load = async () => (other ? [choice, ...compared(await api.compare({ bundle: first, other }, signal), first, other)] : [choice]);
  return filled({ title: "How alike their lists are", count: 0, load, signal });
}

function compared(found, first, other) {
  const { users, items, k } = found;
  const names = [info(first).title, info(other).title];
  const number = (value, words) => el("li", {}, el("b", {}, value), el("span", {}, words));
  const sample = found.asked < users.both ? `an even sample of ${found.asked.toLocaleString()} of ${users.both.toLocaleString()}` : `${users.both.toLocaleString()}`;
  const apart = [
    users.only_this + users.only_other && `${users.only_this.toLocaleString()} people only ${names[0]} knows, ${users.only_other.toLocaleString()} only ${names[1]}`,
    items.only_this + items.only_other && `${items.only_this.toLocaleString()} items only in ${names[0]}, ${items.only_other.toLocaleString()} only in ${names[1]}`,
  ].filter(Boolean);
  return [
    el("ul", { class: "alike-numbers", "aria-label": "how alike the lists are" },
      number(percent(found.overlap), `of a list of ${k} is in both`),
      number(found.rank_biased.toFixed(2), "overlap that weighs first places most (1: the same order)"),
      number(percent(found.first_changed), "of the people get another first item")),
    el("p", { class: "hint" }, [`For the people that both know: ${sample}.`, ...apart.map((one) => `${one}.`)].join(" ")),
    exposure(`Shown more by ${names[0]}`, found.more, first, "this", "other"),
    exposure(`Shown more by ${names[1]}`, found.fewer, other, "other", "this"),
  ];
}

function exposure(title, items, bundle, more, less) {
  if (!items.length) return null;
  const one = (item) =>
    el("li", {}, el("a", { class: "card small", href: link({ item: item.id, from: bundle }), "data-item": item.id },
      el("span", { class: "pic" }, picture(item, { size: 96 })), el("span", { class: "name" }, item.title),
      el("span", { class: "why-not" }, `${percent(item[more])}, else ${percent(item[less])}`)));
  return el("div", { class: "left-out" }, el("h3", {}, title), el("ul", { class: "strip", "aria-label": title }, ...items.map(one)));
}
