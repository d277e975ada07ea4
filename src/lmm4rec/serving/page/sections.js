// Parts of the page that are filled when the service has answered.

import { grid, legend, waiting } from "./cards.js";
import { el } from "./dom.js";
import { chosen, info, state } from "./state.js";

export const SHOWN = 12;
const MOST = 500; // items in one answer of the service

/** The model's name for a heading, where there are several. */
export const modelOf = (name) => state.bundles.length > 1 && name;

export function section(title, name, ...content) {
  const heading = el("h2", {}, title);
  if (name) heading.append(" ", el("small", {}, info(name).title));
  return el("section", {}, heading, ...content);
}

/** A section that shows blanks, then what `load` gives, or what went wrong; null removes it. */
export function filled({ title, name, count = SHOWN, small = false, load, signal, unknown }) {
  const node = section(title, name, waiting(count, small));
  node.again = async () => {
    try {
      const content = await load();
      if (!signal.aborted && content !== null) node.replaceChildren(node.firstChild, ...content.filter(Boolean));
    } catch (error) {
      if (error.status !== 404 || !unknown) throw error;
      if (!signal.aborted) unknown(); // all that was known of the person is undone
    }
  };
  load().then(
    (content) => {
      if (signal.aborted) return;
      if (content === null) node.remove();
      else node.replaceChildren(node.firstChild, ...content.filter(Boolean));
    },
    (error) => {
      if (signal.aborted || error.name === "AbortError") return;
      if (error.status === 404 && unknown) unknown();
      else node.replaceChildren(node.firstChild, el("p", { class: "wrong" }, error.message));
    },
  );
  return node;
}

export function panes(make) {
  const names = chosen();
  return el("div", { class: names.length > 1 ? "panes two" : "panes" }, ...names.map(make));
}

/** A ranked grid with its legend above and a button that adds the next ones; `ask(k)` gives the k best.
 *
 * `above()` (one or several) and `after()` give what stands over and under the grid, for the answer that came last; `size.count` is how
 * many are shown, also when the list is asked for again; `below` and `came` are those of a card.
 */
export async function ranked(ask, { bundle, label, signal, above = () => null, after = () => null, size = { count: SHOWN }, below, came }) {
  const items = await ask(size.count);
  const colors = el("div", { class: "over" });
  const under = el("div", {});
  const recolor = (all) => {
    colors.replaceChildren(...[above(), legend(all)].flat().filter(Boolean));
    under.replaceChildren(...[after()].filter(Boolean));
  };
  const cards = grid(items, { ranked: true, bundle, label, below, came });
  const problem = el("p", { class: "wrong", role: "alert" });
  recolor(items);
  const more = el("button", { type: "button", class: "quiet show-more" }, "Show more");
  more.hidden = items.length < size.count;
  let shown = items.length;
  more.addEventListener("click", async () => {
    more.disabled = true;
    try {
      const wanted = Math.min(shown + SHOWN, MOST);
      const all = await ask(wanted);
      if (signal.aborted) return;
      const later = [...grid(all, { ranked: true, bundle, below }).children].slice(shown);
      cards.append(...later);
      recolor(all);
      later[0]?.querySelector("a").focus({ preventScroll: true });
      shown = size.count = all.length;
      more.hidden = all.length < wanted || wanted === MOST;
      problem.textContent = "";
    } catch (error) {
      if (error.name !== "AbortError") problem.textContent = error.message;
    } finally {
      more.disabled = false;
    }
  });
  return [colors, cards, el("div", { class: "below" }, more, problem), under];
}
