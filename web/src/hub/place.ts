/** The hub's address as this browser reaches it, without a slash at its end. */
export function hubAddress(): string {
  return new URL(".", document.baseURI).href.replace(/\/$/, "");
}
