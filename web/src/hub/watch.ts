import type { HubApi } from "./api";
import { instancesIn, readinessFor, type Instance } from "./pool";
import { Problem } from "./problem";
import { Store } from "./store";

export interface PoolView {
  /** Null until the first answer, and when this key may not see the pool. */
  instances: Instance[] | null;
  models: string[];
  isReachable: boolean;
}

const EVERY_MS = 10_000;
const EVERY_WHILE_STARTING_MS = 2_000;

/** Looks at the pool again and again while somebody looks at the page. */
export class PoolWatch {
  readonly store = new Store<PoolView, Partial<PoolView>>((view, change) => ({ ...view, ...change }), {
    instances: null,
    models: [],
    isReachable: true,
  });
  #timer: ReturnType<typeof setTimeout> | undefined;
  #round = 0;

  constructor(
    private readonly api: HubApi,
    private readonly onUnreachable: () => void,
  ) {}

  start(): void {
    document.addEventListener("visibilitychange", this.lookNow);
    this.lookNow();
  }

  stop(): void {
    this.#round++;
    clearTimeout(this.#timer);
    document.removeEventListener("visibilitychange", this.lookNow);
  }

  readonly lookNow = (): void => {
    clearTimeout(this.#timer);
    if (document.visibilityState === "visible") void this.#look(++this.#round);
  };

  async #look(round: number): Promise<void> {
    const change = await this.#ask();
    if (round !== this.#round) return; // stopped, or a newer look is under way
    this.store.dispatch(change);
    if (change.isReachable === false) this.onUnreachable();
    const { instances } = this.store.state;
    const isSettled = instances === null || readinessFor("auto", instances) === "ready";
    this.#timer = setTimeout(this.lookNow, isSettled ? EVERY_MS : EVERY_WHILE_STARTING_MS);
  }

  async #ask(): Promise<Partial<PoolView>> {
    try {
      const [pool, models] = await Promise.all([
        this.api.json("api/pool").then(instancesIn, unlessForbidden),
        this.api.models().catch(unlessForbidden),
      ]);
      return { instances: pool, models: models ?? [], isReachable: true };
    } catch (error) {
      return { isReachable: !(error instanceof Problem && error.status === 0) };
    }
  }
}

/** A key with few scopes still makes a useful page. */
function unlessForbidden(error: unknown): null {
  if (error instanceof Problem && error.status === 403) return null;
  throw error;
}
