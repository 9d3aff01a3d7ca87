import type { Shelf } from "./shelf";

/** The key in a fragment such as `#key=ag-...`; null when there is none. */
export function keyInFragment(fragment: string): string | null {
  const found = /[#&]key=([^&]+)/.exec(fragment)?.[1];
  if (found === undefined) return null;
  try {
    return cleanKey(decodeURIComponent(found)) || null;
  } catch {
    return null; // a stray `%`
  }
}

/** What a person pasted, without the blanks and quotes around it, or out of a whole console address. */
export function cleanKey(pasted: string): string {
  const text = pasted.trim().replace(/^["']|["']$/g, "");
  return /#(?:.*&)?key=/.test(text) ? (keyInFragment(text.slice(text.indexOf("#"))) ?? "") : text;
}

/** Headers hold visible ASCII only (RFC 9110, section 5.5); anything else cannot be a key. */
export function isPossibleKey(key: string): boolean {
  return /^[\x21-\x7e]{1,512}$/.test(key);
}

/** Move the key from the address bar into storage, so that it is not in the history, in bookmarks or on screenshots. */
export function takeKey(shelf: Shelf): string | null {
  const fresh = keyInFragment(window.location.hash);
  if (fresh !== null) {
    window.history.replaceState(null, "", window.location.pathname + window.location.search);
    shelf.put("key", fresh);
    return fresh;
  }
  const kept = shelf.get("key");
  return typeof kept === "string" && isPossibleKey(kept) ? kept : null;
}
