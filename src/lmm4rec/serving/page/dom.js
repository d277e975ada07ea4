// Elements made from data. Texts only ever become text nodes, so a title that holds markup stays a title.

export const byId = (id) => document.getElementById(id);

export function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "class") node.className = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name.startsWith("--")) node.style.setProperty(name, value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

const SHOWN_MS = 4000;
const OFFERED_MS = 12000; // with a button, and once more after the pointer or the focus was on it
let fading;

/** A message for a moment; `action` is a button beside it: its label and what it does. */
export function toast(words, action) {
  const node = byId("toast");
  const hide = () => node.classList.remove("shown");
  const wait = () => {
    clearTimeout(fading);
    fading = setTimeout(hide, action ? OFFERED_MS : SHOWN_MS);
  };
  node.replaceChildren(el("span", {}, words));
  if (action) {
    const act = () => {
      hide();
      action.act();
    };
    const stay = { onpointerenter: () => clearTimeout(fading), onfocus: () => clearTimeout(fading), onpointerleave: wait, onblur: wait };
    node.append(el("button", { type: "button", onclick: act, ...stay }, action.label));
  }
  node.classList.add("shown");
  wait();
}

/** A click on the dark ground around a dialog, or on a [data-close] in it, closes it. */
export function closable(dialog) {
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog || event.target.closest("[data-close]")) dialog.close();
  });
}
