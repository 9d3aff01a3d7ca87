import { useSyncExternalStore } from "react";

/** State that lives outside React: a reducer, its present state, and who wants to hear of changes. */
export class Store<State, Action> {
  readonly #listeners = new Set<() => void>();
  #state: State;

  constructor(
    private readonly reduce: (state: State, action: Action) => State,
    initial: State,
  ) {
    this.#state = initial;
  }

  get state(): State {
    return this.#state;
  }

  dispatch(action: Action): void {
    const next = this.reduce(this.#state, action);
    if (next === this.#state) return;
    this.#state = next;
    for (const listener of [...this.#listeners]) listener();
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };
}

export function useStore<State, Action>(store: Store<State, Action>): State {
  return useSyncExternalStore(store.subscribe, () => store.state);
}
