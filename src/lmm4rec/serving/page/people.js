// The choice of a person: a text field with a list below it, by keyboard or pointer.

import * as api from "./api.js";
import { byId, el } from "./dom.js";

const WAIT_MS = 120;

export function setUpPeople({ bundle, choose }) {
  const input = byId("person");
  const list = byId("people");
  let active = -1;
  let timer;
  let running = new AbortController();

  const close = () => {
    list.hidden = true;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
    active = -1;
  };
  const take = (user) => {
    close();
    input.value = user;
    choose(user);
  };
  const mark = (place) => {
    const options = list.querySelectorAll("[role=option]");
    if (!options.length) return;
    active = (place + options.length) % options.length;
    options.forEach((option, index) => option.setAttribute("aria-selected", String(index === active)));
    options[active].scrollIntoView({ block: "nearest" });
    input.setAttribute("aria-activedescendant", options[active].id);
  };
  const option = ({ id, history }, index) =>
    el("li", { role: "option", id: `person-${index}`, "data-user": id, "aria-selected": "false", onpointerdown: (event) => event.preventDefault(), onclick: () => take(id) },
      id, el("small", {}, ` ${history} ${history === 1 ? "item" : "items"}`));
  const ask = async () => {
    running.abort();
    running = new AbortController();
    try {
      const { users, total } = await api.users({ q: input.value.trim(), limit: 30, bundle: bundle() }, running.signal);
      if (document.activeElement !== input) return;
      const more = total > users.length && el("li", { class: "hint", role: "presentation" }, `and ${(total - users.length).toLocaleString()} more`);
      list.replaceChildren(...users.map(option), ...(users.length ? [] : [el("li", { class: "hint", role: "presentation" }, "nobody of that name")]), ...(more ? [more] : []));
      list.hidden = false;
      active = -1;
      input.setAttribute("aria-expanded", "true");
    } catch (error) {
      if (error.name !== "AbortError") list.replaceChildren(el("li", { class: "hint", role: "presentation" }, error.message));
    }
  };

  input.addEventListener("focus", () => input.select());
  input.addEventListener("click", () => list.hidden && ask());
  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(ask, WAIT_MS);
  });
  input.addEventListener("blur", close);
  input.addEventListener("keydown", async (event) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (list.hidden) await ask();
      mark(active + (event.key === "ArrowDown" ? 1 : active < 0 ? 0 : -1));
    } else if (event.key === "Enter") {
      event.preventDefault();
      clearTimeout(timer);
      const chosen = list.hidden ? null : list.querySelectorAll("[role=option]")[Math.max(active, 0)];
      if (active < 0 && (list.hidden || chosen?.dataset.user !== input.value.trim())) {
        await ask();
        const first = list.querySelector("[role=option]");
        const typed = input.value.trim();
        if (first || typed) take(first ? first.dataset.user : typed); // the page says that nobody has this id
      } else if (chosen) take(chosen.dataset.user);
    } else if (event.key === "Escape") close();
  });
}
