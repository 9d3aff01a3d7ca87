const FIRST_MS = 500;
const LONGEST_MS = 20_000;

/**
 * How long to wait before attempt number `attempt` (from 0): doubles up to 20 s, half of it by chance, so that the
 * pages of a whole site do not come back in the same instant after the hub was restarted.
 */
export function waitBefore(attempt: number, random: () => number = Math.random): number {
  const full = Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(attempt, 16));
  return Math.round(full / 2 + (random() * full) / 2);
}
