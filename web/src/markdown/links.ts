/**
 * The address of a link that is safe to click; null for `javascript:`, `data:` and whatever else runs or hides code.
 * Relative addresses are refused too: a model does not know this page's.
 */
export function safeHref(href: string): string | null {
  try {
    const url = new URL(href.trim());
    return ["http:", "https:", "mailto:", "tel:"].includes(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}
