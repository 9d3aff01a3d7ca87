import type { Shelf } from "../hub/shelf";

export const THEMES = ["system", "light", "dark"] as const;
export type Theme = (typeof THEMES)[number];

export function keptTheme(shelf: Shelf): Theme {
  const kept = shelf.get("theme");
  return THEMES.find((theme) => theme === kept) ?? "system";
}

/** `system` leaves the choice to the browser; see tokens.css. */
export function wear(theme: Theme): void {
  if (theme === "system") delete document.documentElement.dataset["theme"];
  else document.documentElement.dataset["theme"] = theme;
}
