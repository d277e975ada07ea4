// What a person says of a recommended item: the lists follow at once.

import * as api from "./api.js";
import { byId, el, toast } from "./dom.js";
import { chosen, state } from "./state.js";

const KINDS = [
  ["like", "Like", "is liked", "M6.5 9v8H3.5V9zm0 0 3.2-6.2c1.5 0 2.3 1 2 2.5L11.2 8h4c1.100 0 1.800.9 1.600 2l-1.100 5.400c-.2.900-.9 1.600-1.900 1.600H6.500"],
  ["dislike", "Not for me", "is left out from now on", "M6.500 11V3H3.500v8zm0 0 3.200 6.200c1.500 0 2.300-1 2-2.500L11.200 12h4c1.100 0 1.800-.9 1.600-2l-1.100-5.400c-.2-.9-.9-1.600-1.900-1.600H6.500"],
  ["bought", "Bought", "is bought", "M4 7h12l-1 10H5zm3 2V6a3 3 0 0 1 6 0v3"],
];

/** Buttons under a card; `changed(ids)` shows the lists anew and gives the ids that are listed then. */
export function feedback(item, { user, place, listed, changed }) {
  const bar = el("div", { class: "says", role: "group", "aria-label": `${user} on ${item.title}` });
  const say = async ([kind, , done]) => {
    if (state.writing === "token" && !state.token) return askToken();
    for (const one of bar.children) one.disabled = true;
    const bundles = chosen();
    const id = newId();
    try {
      for (const bundle of bundles) await api.interact({ user, item: item.id, kind, id }, { bundle, token: state.token });
      const before = new Set(listed());
      const after = await changed();
      focusAgain(place, kind);
      const come = after.filter((id) => !before.has(id)).length;
      toast(`“${item.title}” ${done}: ${come === 1 ? "one item is new in the list" : `${come || "no"} items are new in the list`}`,
        { label: "Undo", act: () => undo(item, { id, bundles, changed, place, kind }) });
    } catch (error) {
      for (const one of bar.children) one.disabled = false;
      toast(error.message);
    }
  };
  bar.append(...KINDS.map((one) => el("button", { type: "button", class: "quiet", "data-kind": one[0], "aria-label": `${one[1]}: ${item.title}`, title: one[1], onclick: () => say(one) }, icon(one[3]))));
  return bar;
}

/** Take back what was said last: the lists are those of before. */
async function undo(item, { id, bundles, changed, place, kind }) {
  try {
    for (const bundle of bundles) await api.retract(id, { bundle, token: state.token });
    await changed();
    focusAgain(place, kind);
    toast(`“${item.title}” is as it was before`);
  } catch (error) {
    toast(error.message);
  }
}

/** An id by which what was said can be taken back. (`randomUUID` is not there without TLS.) */
const newId = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");

function icon(path) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
  line.setAttribute("d", path);
  svg.setAttribute("viewBox", "0 0 20 20");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  svg.append(line);
  return svg;
}

/** By keyboard one stays at the place in the list, where another item stands now. */
function focusAgain(place, kind) {
  const bars = document.querySelectorAll("#main .grid .says");
  bars[Math.min(place, bars.length - 1)]?.querySelector(`[data-kind=${kind}]`)?.focus({ preventScroll: true });
}

function askToken() {
  byId("choices").classList.add("open");
  byId("options").setAttribute("aria-expanded", "true");
  byId("token").focus();
  toast("This needs the service's token");
}
