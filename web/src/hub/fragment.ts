/** A field of a fragment such as `#key=ag-1&tab=chat`, decoded; null when it is not there, or cannot be read. */
export function fieldInFragment(fragment: string, name: string): string | null {
  const found = new RegExp(`[#&]${name}=([^&]+)`).exec(fragment)?.[1];
  if (found === undefined) return null;
  try {
    return decodeURIComponent(found);
  } catch {
    return null; // a stray `%`
  }
}
