// The service's endpoints as functions; what goes wrong is an Error whose message can be shown.

const ROOT = new URL("..", import.meta.url).pathname.replace(/\/$/, ""); // the path under which a proxy shows the service

async function answer(response) {
  if (response.ok) return response.status === 204 ? null : response.json();
  let detail = `the service answered ${response.status}`;
  try {
    detail = (await response.json()).detail ?? detail;
  } catch {
    // no JSON: a proxy in between, say
  }
  throw Object.assign(new Error(detail), { status: response.status });
}

async function call(path, options) {
  try {
    return await answer(await fetch(ROOT + path, options));
  } catch (error) {
    if (error instanceof TypeError) throw new Error("the service does not answer; is it still running?");
    throw error;
  }
}

function address(path, parameters) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    for (const one of [value].flat()) if (one !== undefined && one !== null && one !== "") query.append(name, one);
  }
  return query.size ? `${path}?${query}` : path;
}

const id = encodeURIComponent;
const bearer = (token) => (token ? { Authorization: `Bearer ${token}` } : {});
const get = (path, parameters = {}, signal, token) => call(address(path, parameters), { signal, headers: bearer(token) });

export const bundles = () => get("/bundles");
export const users = (parameters, signal) => get("/users", parameters, signal);
export const history = (user, parameters, signal) => get(`/users/${id(user)}/history`, parameters, signal);
export const recommend = (user, parameters, signal) => get(`/recommend/${id(user)}`, parameters, signal);
export const similar = (item, parameters, signal) => get(`/similar/${id(item)}`, parameters, signal);
export const detail = (item, parameters, signal) => get(`/items/${id(item)}`, parameters, signal);
export const explain = (parameters, signal) => get("/explain", parameters, signal);
export const audience = (item, parameters, signal) => get(`/audience/${id(item)}`, parameters, signal);
export const items = (parameters, signal) => get("/items", parameters, signal);
export const rules = (parameters) => get("/rules", parameters);
export const nights = (parameters, token) => get("/nights", parameters, undefined, token);
export const compare = (parameters, signal) => get("/compare", parameters, signal);
export const search = (parameters, signal) => get("/search", parameters, signal);

export function searchPicture(file, parameters, signal) {
  const form = new FormData();
  form.append("image", file);
  return call(address("/search", parameters), { method: "POST", body: form, signal });
}

/** Tell the service what a person did with an item; lists follow at once. */
export function interact({ user, item, kind, id: event }, { bundle, token }) {
  const body = JSON.stringify({ interactions: [{ user, item, kind, id: event }] });
  const headers = { "content-type": "application/json", ...bearer(token) };
  return call(address("/interactions", { bundle }), { method: "POST", body, headers });
}

/** Take back what was told under this id. */
export function retract(event, { bundle, token }) {
  return call(address(`/interactions/${id(event)}`, { bundle }), { method: "DELETE", headers: bearer(token) });
}

export function addItem({ bundle, itemId, fields, image, token }) {
  const form = new FormData();
  form.append("fields", JSON.stringify(fields));
  if (itemId) form.append("id", itemId);
  if (image) form.append("image", image);
  return call(address("/items", { bundle }), { method: "POST", body: form, headers: bearer(token) });
}

export function deleteItem(item, { bundle, token }) {
  return call(address(`/items/${id(item)}`, { bundle }), { method: "DELETE", headers: bearer(token) });
}
