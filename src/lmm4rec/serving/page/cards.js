// Items as picture cards, and why they are recommended.

import { el } from "./dom.js";
import { moved } from "./ruled.js";
import { link, place } from "./place.js";

const KNOWN = ["id", "image", "text", "bias", "joint"]; // parts with a color of their own; others share four more
const NAMES = {
  id: "similar people", image: "picture", text: "words", bias: "popular with all", content: "picture and words", new: "as any new item", audio: "sound", rest: "the rest", joint: "all parts together",
};

export const partName = (part) => NAMES[part] ?? part;

function partClass(part) {
  const place = KNOWN.indexOf(part);
  return `part-${place >= 0 ? place : KNOWN.length + (hue(part) % 4)}`;
}

/** Entries of shares, the same part at the same place always. */
function ordered(shares) {
  const order = ([part]) => (KNOWN.includes(part) ? KNOWN.indexOf(part) : KNOWN.length);
  return Object.entries(shares).sort((one, two) => order(one) - order(two));
}

function hue(text) {
  let sum = 0;
  for (const letter of text) sum = (sum * 31 + letter.codePointAt(0)) % 360;
  return sum;
}

function initials(title) {
  const words = title.split(/\s+/).filter((word) => /[\p{L}\p{N}]/u.test(word));
  return words.slice(0, 2).map((word) => [...word.replace(/^[^\p{L}\p{N}]+/u, "")][0].toUpperCase()).join("") || "?";
}

/** An item's picture, shown at `size` CSS pixels; dense screens get one of more pixels. */
export function picture(item, { size = 208, lazy = true } = {}) {
  const stand = () => el("span", { class: "placeholder", "aria-hidden": "true", "--hue": hue(item.id) }, initials(item.title));
  if (!item.picture) return el("span", { class: "frame" }, stand());
  const image = el("img", { srcset: sources(item.picture), sizes: `${size}px`, src: item.picture, alt: "", loading: lazy ? "lazy" : "eager", decoding: "async" });
  image.addEventListener("error", () => image.replaceWith(stand()), { once: true });
  return el("span", { class: "frame" }, image);
}

function sources(path) {
  const sized = (side) => `${path}${path.includes("?") ? "&" : "?"}side=${side} ${side}w`;
  return `${sized(64)}, ${sized(192)}, ${path} 416w`;
}

/** Whether the model's parts can be told apart: one bar of one color would say nothing. */
const hasParts = (item) => Object.keys(item.reason?.shares ?? {}).length > 1;

/** Shares of the score: what adds to it as one bar of colored pieces. */
export function shareBar(shares) {
  const adding = ordered(shares).filter(([, value]) => value > 0);
  const sum = adding.reduce((total, [, value]) => total + value, 0);
  const words = adding.map(([part, value]) => `${partName(part)} ${Math.round((100 * value) / sum)} %`).join(", ");
  const pieces = adding.map(([part, value]) => el("i", { class: partClass(part), "--share": (value / sum).toFixed(4) }));
  return el("span", { class: "shares", role: "img", "aria-label": words ? `because of: ${words}` : "nothing adds to the score", title: words }, ...pieces);
}

/** Shares in full: a row a part, what takes away points to the left. */
export function shareRows(shares) {
  const most = Math.max(...Object.values(shares).map(Math.abs), 1e-9);
  const rows = ordered(shares).map(([part, value]) =>
    el("tr", {},
      el("th", { scope: "row" }, partName(part)),
      el("td", { class: "bar" }, el("i", { class: `${partClass(part)} ${value < 0 ? "less" : "more"}`, "--share": (Math.abs(value) / most).toFixed(4) })),
      el("td", { class: "number" }, `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(2)}`)));
  return el("table", { class: "share-rows" }, el("caption", {}, "What gives the score"), el("tbody", {}, ...rows));
}

export function legend(items) {
  const adding = items.filter(hasParts).flatMap((item) => Object.entries(item.reason.shares).filter(([, value]) => value > 0));
  if (!adding.length) return null;
  const parts = ordered(Object.fromEntries(adding)).map(([part]) => part);
  return el("ul", { class: "legend", "aria-label": "colors of the bars" }, ...parts.map((part) => el("li", {}, el("i", { class: partClass(part) }), partName(part))));
}

function nearest(reason) {
  if (!reason.nearest.length) return null;
  const [first] = reason.nearest;
  const small = reason.nearest.slice(0, 3).map((near) => picture(near, { size: 26 }));
  return el("span", { class: "near", title: reason.nearest.map((near) => near.title).join("\n") },
    el("span", { class: "thumbs", "aria-hidden": "true" }, ...small),
    el("span", { class: "near-words" }, `like ${first.title}`));
}

export function card(item, { rank, bundle, small, below, came } = {}) {
  return el("li", { class: came && "came" },
    el("a", { class: small ? "card small" : "card", href: link({ item: item.id, from: bundle }), "data-item": item.id },
      el("span", { class: "pic" }, picture(item, { size: small ? 96 : 208 }),
        rank && el("span", { class: "rank", "aria-hidden": "true" }, String(rank)),
        item.added && el("span", { class: "badge" }, "new")),
      el("span", { class: "name" }, item.title),
      !small && place().scores && Number.isFinite(item.score) && el("span", { class: "score" }, `score ${item.score.toFixed(3).replace("-", "−")}`),
      rank && moved(item, rank),
      item.reason && hasParts(item) && shareBar(item.reason.shares),
      item.reason && nearest(item.reason)),
    below && below(item, rank - 1));
}

export function grid(items, { ranked = false, bundle, small = false, label, below, came } = {}) {
  return el("ul", { class: small ? "strip" : "grid", "aria-label": label },
    ...items.map((item, index) => card(item, { rank: ranked && index + 1, bundle, small, below, came: came?.(item) })));
}

export function waiting(count, small = false) {
  const blank = () => el("li", { class: "blank" }, el("span", { class: "frame" }), el("span", { class: "line" }));
  return el("ul", { class: small ? "strip" : "grid", "aria-hidden": "true" }, ...Array.from({ length: count }, blank));
}
