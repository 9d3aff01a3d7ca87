/** What this browser keeps for the page. Never throws: a browser may forbid storage, or be out of room. */
export interface Shelf {
  get(name: string): unknown;
  /** False when the value could not be kept; it is then gone after a reload. */
  put(name: string, value: unknown): boolean;
  drop(name: string): void;
  /** The names that start with `prefix`. */
  names(prefix: string): string[];
}

const PREFIX = "autoglm.";

/** Hears when another page of this browser changes one of these. Returns what ends the hearing. */
export function hearOfOtherPages(names: readonly string[], onChange: () => void): () => void {
  const listen = ({ key }: StorageEvent) => {
    if (key === null || names.includes(key.slice(PREFIX.length))) onChange(); // null: all was cleared
  };
  window.addEventListener("storage", listen);
  return () => window.removeEventListener("storage", listen);
}

export type Storing = Pick<Storage, "getItem" | "setItem" | "removeItem" | "key" | "length">;

export function shelfIn(storage: Storing): Shelf {
  return {
    get(name) {
      try {
        const text = storage.getItem(PREFIX + name);
        return text === null ? undefined : (JSON.parse(text) as unknown);
      } catch {
        return undefined; // not ours, or written by a version that kept it in another form
      }
    },
    put(name, value) {
      try {
        storage.setItem(PREFIX + name, JSON.stringify(value));
        return true;
      } catch {
        return false;
      }
    },
    drop(name) {
      try {
        storage.removeItem(PREFIX + name);
      } catch {
        // forbidden storage holds nothing to remove
      }
    },
    names(prefix) {
      const found: string[] = [];
      for (let index = 0; index < storage.length; index++) {
        const name = storage.key(index);
        if (name?.startsWith(PREFIX + prefix)) found.push(name.slice(PREFIX.length));
      }
      return found;
    },
  };
}

/** Storage that lasts as long as the page, for browsers that forbid the real one. */
export function memoryStorage(limitChars = Infinity): Storing {
  const values = new Map<string, string>();
  const used = () => [...values].reduce((sum, [name, value]) => sum + name.length + value.length, 0);
  return {
    get length() {
      return values.size;
    },
    key: (index) => [...values.keys()][index] ?? null,
    getItem: (name) => values.get(name) ?? null,
    removeItem: (name) => void values.delete(name),
    setItem(name, value) {
      const before = values.get(name);
      values.set(name, value);
      if (used() <= limitChars) return;
      if (before === undefined) values.delete(name);
      else values.set(name, before);
      throw new Error("QuotaExceededError");
    },
  };
}

export function browserShelf(): Shelf {
  try {
    const storage = window.localStorage;
    storage.getItem(PREFIX); // Safari and locked-down browsers throw here rather than above
    return shelfIn(storage);
  } catch {
    return shelfIn(memoryStorage());
  }
}
