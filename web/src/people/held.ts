import { useState } from "react";
import { Problem } from "../hub/problem";
import type { Act } from "../shell/act";

export interface Held {
  /** True while a change waits for a fresh login. */
  isHeld: boolean;
  /** Does it now, or holds it where the hub wants a login of the last minutes first. */
  change: (action: () => Promise<void>) => void;
  /** The fresh login has come. */
  goOn: () => void;
  drop: () => void;
}

/** For what the hub lets nobody do in a session that was left open. */
export function useHeld(act: Act): Held {
  const [held, setHeld] = useState<(() => Promise<void>) | null>(null);
  const change = (action: () => Promise<void>) =>
    act.run(async () => {
      try {
        await action();
      } catch (error) {
        if (!(error instanceof Problem) || error.code !== "fresh_login_wanted") throw error;
        setHeld(() => action);
      }
    });
  const goOn = () => {
    setHeld(null);
    if (held) change(held);
  };
  return { isHeld: held !== null, change, goOn, drop: () => setHeld(null) };
}
