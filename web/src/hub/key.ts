import { fieldInFragment } from "./fragment";
import type { Shelf } from "./shelf";

/** The key in a fragment such as `#key=ag-...`; null when there is none. */
export function keyInFragment(fragment: string): string | null {
  return cleanKey(fieldInFragment(fragment, "key") ?? "") || null;
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

export function keptKey(shelf: Shelf): string | null {
  const kept = shelf.get("key");
  return typeof kept === "string" && isPossibleKey(kept) ? kept : null;
}
