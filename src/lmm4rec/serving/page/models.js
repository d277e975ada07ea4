// The models in service: what they are, how good, what they cost.

import { comparing } from "./comparing.js";
import { el } from "./dom.js";
import { nights } from "./nights.js";
import { link } from "./place.js";
import { section } from "./sections.js";
import { chosen, state } from "./state.js";

const WANTED = ["recall@20", "ndcg@20", "hit_rate@20"]; // shown first, where they were measured
const RELOADING = {
  token: "To load them again after a run: POST /reload with the token, or kill -HUP.",
  open: "To load them again after a run: kill -HUP. POST /reload always needs a token, and this service was started without one (serve --token-env).",
};

export function models(signal) {
  const { bundles, writing } = state;
  const first = headline(bundles);
  const lead = section("Models", null,
    el("p", { class: "hint" }, `${count(bundles.length, "model")} in service, measured on the test part of the data${bundles.some((one) => Object.keys(one.test_error).length) ? "; ± is the 95 % interval over its people" : ""}.`),
    scrolling("Models, their quality and cost", table(["Model", ...first, "Run time", "Memory", "Parameters"], bundles.map((one) => [
      nameCell(one), ...first.map((metric) => quality(one, metric)),
      seconds(one.cost.seconds), memory(one.cost.peak_memory_mb), rounded(one.cost.parameters),
    ]))));
  const data = section("Data", null, dataOf(bundles));
  const all = [...new Set(bundles.flatMap((one) => Object.keys(one.test)))];
  const more = all.length > first.length && el("details", { class: "every" }, el("summary", {}, "All metrics"),
    scrolling("All metrics", table(["Metric", ...bundles.map((one) => one.title)], all.map((metric) => [
      el("th", { scope: "row" }, metric), ...bundles.map((one) => quality(one, metric)),
    ]))));
  return [lead, more || null, comparing(signal), nights(signal), data, el("p", { class: "hint reloading" }, RELOADING[writing === "token" ? "token" : "open"])].filter(Boolean);
}

/** The data in a sentence where all models share it, else a row each. */
function dataOf(bundles) {
  const facts = (one) => [one.data || "–", number(one.users), number(one.items - one.added), number(one.interactions)];
  const added = Math.max(...bundles.map((one) => one.added));
  if (new Set(bundles.map((one) => facts(one).join())).size === 1) {
    const [name, users, items, interactions] = facts(bundles[0]);
    return el("p", {}, `${name}: ${users} people, ${items} items, ${interactions} interactions${added ? `; and ${added.toLocaleString()} items added after the training` : ""}`);
  }
  return scrolling("Data of the models", table(["Model", "Data", "People", "Items", "Interactions"], bundles.map((one) => [el("th", { scope: "row" }, one.title), ...facts(one)])));
}

function headline(bundles) {
  const measured = new Set(bundles.flatMap((one) => Object.keys(one.test)));
  const wanted = WANTED.filter((metric) => measured.has(metric));
  return wanted.length ? wanted : [...measured].slice(0, 3);
}

function nameCell(one) {
  const encoder = one.encoder && one.encoder !== "none";
  const now = one.name === chosen()[0];
  const address = link({ view: "", words: "", item: "", from: "", bundle: one.name, beside: "" });
  return el("th", { scope: "row" }, el("a", { href: address }, one.title), now && el("small", {}, " chosen"), one.loading && el("small", {}, " encoder is loading"),
    (encoder || one.model !== one.title) && el("small", { class: "line" }, encoder ? `${one.model}, encoder ${one.encoder}` : one.model));
}

function quality(one, metric) {
  const value = one.test[metric];
  if (value === undefined || value === null) return "–";
  const error = one.test_error[metric];
  const best = Math.max(...state.bundles.map((other) => other.test[metric] ?? -Infinity));
  const text = value.toFixed(4);
  return el("span", { class: "quality" }, state.bundles.length > 1 && value === best ? el("strong", {}, text) : text, error !== undefined && el("small", {}, ` ± ${(1.96 * error).toFixed(4)}`));
}

const number = (value) => (value ?? null) === null ? "–" : value.toLocaleString();
const count = (value, word) => `${value} ${word}${value === 1 ? "" : "s"}`;

function rounded(value) {
  if (!value) return value === 0 ? "none" : "–";
  return value < 1e6 ? value.toLocaleString() : `${(value / 1e6).toPrecision(3)} million`;
}

function seconds(value) {
  if (value === undefined) return "–";
  if (value < 90) return `${value.toFixed(value < 10 ? 1 : 0)} s`;
  return value < 5400 ? `${(value / 60).toFixed(0)} min` : `${(value / 3600).toFixed(1)} h`;
}

function memory(value) {
  if (value === undefined) return "–";
  return value < 1000 ? `${value.toFixed(0)} MB` : `${(value / 1000).toFixed(1)} GB`;
}

function table(heads, rows) {
  const cell = (one) => (one.tagName === "TH" ? one : el("td", {}, one));
  return el("table", { class: "numbers" },
    el("thead", {}, el("tr", {}, ...heads.map((head) => el("th", { scope: "col" }, head)))),
    el("tbody", {}, ...rows.map((row) => el("tr", {}, ...row.map(cell)))));
}

/** A table that is too wide scrolls within itself, by keyboard, too. */
const scrolling = (label, inner) => el("div", { class: "wide", role: "region", "aria-label": label, tabindex: 0 }, inner);
