export type Language = "en" | "zh";

/** Chinese for whoever's browser prefers it over English, in the order of the browser's own list. */
export function preferredLanguage(wanted: readonly string[]): Language {
  for (const tag of wanted) {
    if (/^zh\b/i.test(tag)) return "zh";
    if (/^en\b/i.test(tag)) return "en";
  }
  return "en";
}
