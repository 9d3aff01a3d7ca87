export type AddressFault = "empty" | "no_scheme" | "no_name" | "blank" | "channel" | "site";

const SCHEMES = ["user", "group", "device", "model", "channel", "site"];

/** What keeps `text` from being an address such as `user:alice`; null when it is one. The hub has the last word. */
export function addressFault(text: string): AddressFault | null {
  if (text === "") return "empty";
  const colon = text.indexOf(":");
  if (!SCHEMES.includes(text.slice(0, colon < 0 ? 0 : colon))) return "no_scheme";
  const rest = text.slice(colon + 1);
  if (rest === "") return "no_name";
  if (/\s/.test(rest) || rest.length > 200) return "blank";
  if (text.startsWith("channel:") && !/^[a-z0-9][a-z0-9_-]*\/./.test(rest)) return "channel";
  if (text.startsWith("site:") && !/^[^/]+\/./.test(rest)) return "site";
  return null;
}
