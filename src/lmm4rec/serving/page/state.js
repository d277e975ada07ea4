// What is known of the service, and which bundles the address chooses.

import * as api from "./api.js";
import { place } from "./place.js";

export const state = { bundles: [], writing: "off", photo: null, revision: 0, rules: [], rulesError: null, token: "" };

export const info = (name) => state.bundles.find((one) => one.name === name) ?? state.bundles[0];

export function chosen() {
  const { bundle, beside } = place();
  const first = info(bundle).name;
  return beside && beside !== first && info(beside).name === beside ? [first, beside] : [first];
}

export async function refreshBundles() {
  Object.assign(state, await api.bundles());
  const { rules: sets, error } = await api.rules({ bundle: chosen()[0] }); // one file for all bundles
  Object.assign(state, { rules: sets, rulesError: error });
}

/** The rule set that is chosen, if it is there. */
export const rules = () => state.rules.find((one) => one.name === place().rules);
