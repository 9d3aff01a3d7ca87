import { useCallback, useRef, useState } from "react";
import { failureOf, Problem, type Failure } from "../hub/problem";

export interface Act {
  isBusy: boolean;
  /** What the hub, or the browser, said no to last. */
  failure: Failure | null;
  /** Milliseconds of the browser's clock; the hub takes no other try before then. */
  heldUntilMs: number;
  /** Does one thing at a time, and does nothing while another one is under way. */
  run: (action: () => Promise<void>) => void;
  clear: () => void;
}

/** For what a person does by a button, and what may come of it. */
export function useAct(): Act {
  const [state, setState] = useState<Pick<Act, "isBusy" | "failure" | "heldUntilMs">>(IDLE);
  const isBusy = useRef(false);
  const run = useCallback((action: () => Promise<void>) => {
    if (isBusy.current) return;
    isBusy.current = true;
    setState({ ...IDLE, isBusy: true });
    action()
      .then(
        () => setState(IDLE),
        (error: unknown) => {
          if (!(error instanceof Problem)) setState(IDLE);
          if (!(error instanceof Problem)) throw error;
          const waitS = error.status === 429 ? (error.retryAfterS ?? 0) : 0;
          setState({ isBusy: false, failure: failureOf(error), heldUntilMs: Date.now() + waitS * 1_000 });
        },
      )
      .finally(() => (isBusy.current = false));
  }, []);
  const clear = useCallback(() => setState((now) => ({ ...now, failure: null })), []);
  return { ...state, run, clear };
}

const IDLE = { isBusy: false, failure: null, heldUntilMs: 0 };
