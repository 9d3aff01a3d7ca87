import { useEffect, useState } from "react";

/** Whole seconds until `untilMs` of the browser's clock, counted down; 0 when it is over. */
export function useSecondsUntil(untilMs: number): number {
  const [now, setNow] = useState(() => Date.now());
  const isOver = untilMs <= now;
  useEffect(() => {
    setNow(Date.now());
    if (isOver) return;
    const timer = setInterval(() => setNow(Date.now()), 500);
    return () => clearInterval(timer);
  }, [untilMs, isOver]);
  return secondsUntil(untilMs, now);
}

export function secondsUntil(untilMs: number, nowMs: number): number {
  return Math.max(0, Math.ceil((untilMs - nowMs) / 1_000));
}
