import type { Envelope } from "../hub/frames";
import type { Shelf } from "../hub/shelf";

/** What is sent: the hub fills in `from`, by the key. */
export type Outgoing = Omit<Envelope, "from">;

/**
 * Messages on their way to the hub. Each stays here, across reloads, until the hub has taken or refused it. The
 * envelope is kept whole and sent again unchanged, so that its id lets the hub see a repeat for what it is.
 */
export class Outbox {
  readonly #prefix: string;
  readonly #waiting = new Map<string, Outgoing>();

  constructor(
    private readonly shelf: Shelf,
    owner: string,
  ) {
    this.#prefix = `outbox.${owner}/`;
    for (const name of shelf.names(this.#prefix)) {
      const message = shelf.get(name) as Outgoing | undefined;
      if (message && name === this.#prefix + message.id) this.#waiting.set(message.id, message);
      else shelf.drop(name);
    }
  }

  /** False when the browser could not keep it: it is sent as long as this page stays open. */
  add(message: Outgoing): boolean {
    this.#waiting.set(message.id, message);
    return this.shelf.put(this.#prefix + message.id, message);
  }

  settle(id: string): void {
    this.#waiting.delete(id);
    this.shelf.drop(this.#prefix + id);
  }

  /** In the order in which they were written. */
  waiting(): Outgoing[] {
    return [...this.#waiting.values()].sort((one, other) => one.timestamp - other.timestamp);
  }
}
