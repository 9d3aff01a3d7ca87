import { useEffect, useState } from "react";
import { waitBefore } from "../hub/backoff";
import { Problem } from "../hub/problem";

export interface Asked<Answer> {
  answer: Answer | null;
  /** Why there is none yet; the hub is asked again when that may pass. */
  problem: Problem | null;
}

/** Asks as soon as it is shown, and again and again until the hub answers. `ask` must stay the same function. */
export function useAnswer<Answer>(ask: () => Promise<Answer>): Asked<Answer> {
  const [asked, setAsked] = useState<Asked<Answer>>({ answer: null, problem: null });
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    let isOver = false;
    const attempt = async (number: number) => {
      try {
        const answer = await ask();
        if (!isOver) setAsked({ answer, problem: null });
      } catch (error) {
        if (!(error instanceof Problem)) throw error;
        if (isOver) return;
        setAsked({ answer: null, problem: error });
        const waitMs = Math.max(waitBefore(number), (error.retryAfterS ?? 0) * 1_000);
        if (error.isPassing) timer = setTimeout(() => void attempt(number + 1), waitMs);
      }
    };
    void attempt(0);
    return () => {
      isOver = true;
      clearTimeout(timer);
    };
  }, [ask]);
  return asked;
}
