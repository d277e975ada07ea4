// Where one is on the page: in the address, so that Back, bookmarks and links work.

const NAMES = ["user", "words", "item", "from", "bundle", "beside", "taste", "view", "q", "page", "scores", "rules", "other"];

export function place() {
  const given = new URLSearchParams(location.hash.slice(1));
  return Object.fromEntries(NAMES.map((name) => [name, given.get(name) ?? ""]));
}

/** The address of here with some things changed. */
export function link(changes) {
  const now = { ...place(), ...changes };
  const address = new URLSearchParams();
  for (const name of NAMES) if (now[name]) address.set(name, now[name]);
  return `#${address}`;
}

export function go(changes, { replace = false } = {}) {
  const address = link(changes);
  if (address === (location.hash || "#")) return;
  if (replace) {
    history.replaceState(null, "", address);
    dispatchEvent(new HashChangeEvent("hashchange"));
  } else location.hash = address;
}
