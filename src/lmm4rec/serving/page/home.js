// What a person has, what is recommended to them, which new items suit them; and what to do about an unknown one.

import * as api from "./api.js";
import { grid } from "./cards.js";
import { byId, el } from "./dom.js";
import { feedback } from "./feedback.js";
import { link } from "./place.js";
import { changes, leftOut, refused } from "./ruled.js";
import { SHOWN, filled, modelOf, panes, ranked } from "./sections.js";
import { chosen, info, rules, state } from "./state.js";

const SUGGESTED = 6;

export function home(user, signal, unknown) {
  const news = chosen().filter((name) => info(name).added);
  return [
    has(user, chosen()[0], signal, unknown),
    panes((name) => recommended(user, name, signal, unknown)),
    ...(news.length ? [panes((name) => (news.includes(name) ? fresh(user, name, signal) : el("section")))] : []),
  ];
}

function recommended(user, name, signal, unknown) {
  const reasons = info(name).can.explain;
  const size = { count: SHOWN };
  const set = rules();
  let answer = null;
  let before = null; // the ids that were listed before, when a person has said something
  const ask = async (k) => {
    answer = await api.recommend(user, { k, reasons, bundle: name, rules: set?.name }, signal);
    return answer.items;
  };
  const listed = () => answer?.items.map((item) => item.id) ?? [];
  const changed = async () => {
    const sections = [...document.querySelectorAll("#main section")].filter((one) => one.again);
    sections.forEach((one) => one.remember?.());
    await Promise.all(sections.map((one) => one.again()));
    return listed();
  };
  const load = async () => {
    const content = await ranked(ask, {
      bundle: name, label: `recommended to ${user}`, signal, size,
      above: () => [state.rulesError && refused(state.rulesError), answer.rules && changes(answer.rules, set)],
      after: () => answer.rules && leftOut(answer.rules, name),
      below: state.writing === "off" ? null : (item, place) => feedback(item, { user, place, listed, changed }),
      came: (item) => before !== null && !before.has(item.id),
    });
    if (content[1].children.length) return content;
    return [content[0], el("p", { class: "hint" }, answer.note ?? "Nothing is left to recommend."), content[3]];
  };
  const node = filled({ title: `For ${user}`, name: modelOf(name), load, signal, unknown });
  node.remember = () => (before = new Set(listed()));
  return node;
}

function has(user, name, signal, unknown) {
  const load = async () => {
    const { items } = await api.history(user, { k: 40, bundle: name }, signal);
    if (!items.length) return [el("p", { class: "hint" }, "Nothing yet.")];
    return [grid(items, { bundle: name, small: true, label: `what ${user} has` })];
  };
  return filled({ title: `What ${user} has`, count: 8, small: true, load, signal, unknown });
}

function fresh(user, name, signal) {
  const load = async () => {
    const added = await api.items({ added: true, limit: 50, bundle: name }, signal);
    if (!added.items.length) return null;
    const only = added.items.map((item) => item.id);
    const { items } = await api.recommend(user, { only, k: only.length, bundle: name }, signal);
    const plain = items.map((item) => ({ ...item, added: false })); // all are new: no badges over small pictures
    return [grid(plain, { bundle: name, small: true, label: `new items, best for ${user} first` })];
  };
  return filled({ title: `New, best for ${user} first`, name: modelOf(name), count: 3, small: true, load, signal });
}

/** One message in place of an error in every section, with ids that exist: those that begin alike, or else the first. */
export async function showUnknown(main, user, signal) {
  const bundle = chosen()[0];
  const ids = el("ul", { class: "people", "aria-label": "people there are" });
  const hint = el("p", { class: "hint" }, `There are ${info(bundle).users.toLocaleString()} people. Perhaps you mean one of these:`);
  main.replaceChildren(el("section", { class: "unknown", role: "alert" }, el("h2", {}, `Nobody is called “${user}”`), hint, ids));
  byId("person").value = user;
  for (let length = user.length; ; length = length > 6 ? Math.floor(length / 2) : length - 1) {
    const { users } = await api.users({ q: user.slice(0, length), limit: SUGGESTED, bundle }, signal);
    if (!users.length && length > 0) continue;
    ids.replaceChildren(...users.map(({ id }) => el("li", {}, el("a", { href: link({ user: id, item: "", from: "" }) }, id))));
    return;
  }
}
