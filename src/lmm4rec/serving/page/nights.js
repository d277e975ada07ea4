// What the night job did: a line a night, and more when it is opened.

import * as api from "./api.js";
import { el } from "./dom.js";
import { filled } from "./sections.js";
import { chosen, state } from "./state.js";

const percent = (value) => `${Math.round(100 * value)} %`;
const counts = (values) => Object.entries(values).map(([kind, count]) => `${count.toLocaleString()} ${kind.replaceAll("_", " ")}`).join(", ");

/** The section of the nights; it goes where there are none. */
export function nights(signal) {
  if (state.writing === "off") return null;
  const load = async () => {
    if (state.writing === "token" && !state.token) return [el("p", { class: "hint" }, "The log of the night job is shown to those who enter the service's token above.")];
    const found = (await api.nights({ bundle: chosen()[0] }, state.token)).nights;
    if (!found.length) return null;
    const last = found.find((one) => one.decision !== "kept") ?? found[0];
    const hint = `${found.length === 1 ? "One night" : `${found.length} nights`}, the latest first. Serving: ${found[0].serving ?? last.serving ?? "nothing yet"}.`;
    return [el("p", { class: "hint" }, hint), el("div", { class: "nights" }, ...found.map(night))];
  };
  return filled({ title: "Nights", count: 0, load, signal });
}

function night(one) {
  const { recent, comparison } = one;
  const quality = recent?.all_items;
  const measured = quality && Number.isFinite(quality.before) && `${recent.metric} ${quality.before.toFixed(4)} → ${quality.after.toFixed(4)}`;
  const stay = comparison && `${percent(comparison.overlap.overlap)} of a list stay`;
  const when = new Date(one.started);
  const time = Number.isNaN(when.valueOf()) ? one.started : when.toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
  return el("details", { class: "night" },
    el("summary", {}, el("span", { class: "when" }, time), el("span", { class: `decision ${one.decision}` }, one.decision),
      el("span", { class: "hint" }, [one.model, measured, stay].filter(Boolean).join(" · "))),
    el("p", {}, one.why || "No reason is recorded."),
    el("dl", { class: "facts-of-night" }, ...facts(one).flatMap(([name, text]) => [el("dt", {}, name), el("dd", {}, text)])),
    comparison && moves("Shown to more people", comparison.gaining), comparison && moves("Shown to fewer", comparison.losing));
}

function facts({ rows, left_out: leftOut, seconds, epochs, recent, serving }) {
  const quality = recent?.all_items;
  const wide = quality && Number.isFinite(quality.standard_error) && `${quality.difference >= 0 ? "+" : "−"}${Math.abs(quality.difference).toFixed(4)} ± ${(1.96 * quality.standard_error).toFixed(4)} over ${quality.users.toLocaleString()} people`;
  return [
    ...Object.entries(rows).map(([name, values]) => [name.replaceAll("_", " "), counts(values)]),
    ["left out", Object.entries(leftOut).map(([item, count]) => `${count.toLocaleString()} of “${item}”, which the catalog lacks`).join(", ")],
    ["difference", wide],
    ["who gains", recent && `better for ${recent.better.toLocaleString()} people, worse for ${recent.worse.toLocaleString()}`],
    ["epochs", epochs ?? null],
    ["seconds", Object.entries(seconds).map(([name, value]) => `${name} ${value.toFixed(1)}`).join(", ")],
    ["serving after it", serving],
  ].filter(([, text]) => text);
}

function moves(title, items) {
  if (!items?.length) return null;
  const one = (item) => el("li", {}, item.title, el("small", {}, ` ${percent(item.before)} → ${percent(item.after)}`));
  return el("div", {}, el("h3", {}, title), el("ul", { class: "moves" }, ...items.slice(0, 5).map(one)));
}
