// The dialog that adds an item to the bundles that are shown.

import * as api from "./api.js";
import { byId, closable, el, toast } from "./dom.js";
import { go } from "./place.js";
import { state } from "./state.js";

export function setUpAdding({ bundles, writing, changed }) {
  const dialog = byId("new");
  const form = byId("new-form");
  const file = byId("new-image");
  const wrong = byId("new-wrong");
  let image = null;

  const show = (picture) => {
    image = picture ?? null;
    const preview = image && el("img", { alt: "", src: URL.createObjectURL(image) });
    preview?.addEventListener("load", () => URL.revokeObjectURL(preview.src), { once: true });
    byId("new-preview").replaceChildren(...(preview ? [preview] : []));
  };
  const open = () => {
    form.reset();
    show(null);
    wrong.textContent = "";
    const names = [...new Set(["title", ...bundles().flatMap((one) => one.fields)])];
    byId("new-fields").replaceChildren(...names.map(field));
    byId("new-token").hidden = writing() !== "token";
    byId("new-token").querySelector("input").value = state.token;
    dialog.showModal();
  };
  const add = async () => {
    const fields = {};
    for (const input of byId("new-fields").querySelectorAll("[data-field]")) {
      if (input.value.trim()) fields[input.dataset.field] = input.value.trim();
    }
    const token = byId("new-token").querySelector("input").value;
    let added = null;
    for (const { name } of bundles()) {
      added = await api.addItem({ bundle: name, itemId: added?.id, fields, image, token });
    }
    return added;
  };

  closable(dialog);
  byId("add").addEventListener("click", open);
  file.addEventListener("change", () => show(file.files[0]));
  byId("new-drop").addEventListener("drop", (event) => {
    event.preventDefault();
    show(event.dataTransfer.files[0]);
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("[type=submit]");
    button.disabled = true;
    wrong.textContent = "";
    try {
      const added = await add();
      dialog.close();
      toast(`“${added.title}” is added`);
      await changed();
      go({ item: added.id, from: bundles()[0].name, words: "" });
    } catch (error) {
      wrong.textContent = error.message;
    } finally {
      button.disabled = false;
    }
  });
}

function field(name) {
  const long = name !== "title";
  const input = el(long ? "textarea" : "input", { "data-field": name, rows: long ? 2 : null, maxlength: 2000, autocomplete: "off" });
  return el("label", { class: "field" }, name, input);
}
