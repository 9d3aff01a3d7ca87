const DAY_MS = 24 * 60 * 60 * 1000;

/** A moment, as short as it can be understood: the time for today, else with the date, and with the year if far. */
export function shortMoment(timeMs: number, nowMs: number, tag: string): string {
  const [then, now] = [new Date(timeMs), new Date(nowMs)];
  const clock: Intl.DateTimeFormatOptions = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
  if (then.toDateString() === now.toDateString()) return new Intl.DateTimeFormat(tag, clock).format(then);
  const day: Intl.DateTimeFormatOptions = { month: "short", day: "numeric" };
  const isFar = Math.abs(nowMs - timeMs) > 180 * DAY_MS;
  return new Intl.DateTimeFormat(tag, { ...clock, ...day, ...(isFar ? { year: "numeric" } : {}) }).format(then);
}

/** A moment with nothing left out, for tooltips. */
export function fullMoment(timeMs: number, tag: string): string {
  return new Intl.DateTimeFormat(tag, { dateStyle: "full", timeStyle: "medium" }).format(new Date(timeMs));
}

/** `0.42`, `3.1`, `12`: seconds with as many digits as mean something. */
export function seconds(ms: number, tag: string): string {
  const digits = ms < 1_000 ? 2 : ms < 10_000 ? 1 : 0;
  return new Intl.NumberFormat(tag, { minimumFractionDigits: digits, maximumFractionDigits: digits }).format(
    ms / 1_000,
  );
}
