import type { Shelf } from "../hub/shelf";
import { emptyConversation, freshAnswer, type ChatState, type Conversation, type Turn } from "./conversation";

const CONVERSATIONS_KEPT = 30;
const TURNS_KEPT = 100;

/** The conversations that this browser remembers: one entry each, so that two pages do not overwrite each other. */
export class Archive {
  readonly #prefix: string;

  constructor(
    private readonly shelf: Shelf,
    owner: string,
  ) {
    this.#prefix = `chat.${owner}/`;
  }

  load(fresh: string, at: number): ChatState {
    const kept = this.shelf.names(this.#prefix).flatMap((name) => {
      const conversation = this.shelf.get(name);
      return isConversation(conversation) ? [revived(conversation)] : [];
    });
    kept.sort((one, other) => other.changedAt - one.changedAt);
    return { conversations: kept, current: emptyConversation(fresh, at), running: null };
  }

  /** Keeps `conversation`; forgets the oldest ones when there are too many, or no room. */
  save(conversation: Conversation, all: readonly Conversation[]): void {
    const name = this.#prefix + conversation.id;
    const oldestFirst = all.filter((other) => other.id !== conversation.id).reverse();
    while (oldestFirst.length >= CONVERSATIONS_KEPT) this.#forget(oldestFirst.shift());
    while (!this.shelf.put(name, trimmed(conversation)) && oldestFirst.length > 0) this.#forget(oldestFirst.shift());
  }

  remove(id: string): void {
    this.shelf.drop(this.#prefix + id);
  }

  #forget(conversation: Conversation | undefined): void {
    if (conversation) this.remove(conversation.id);
  }
}

/** Images are left out: a single one can be as large as all else together. */
function trimmed(conversation: Conversation): Conversation {
  const turns = conversation.turns.slice(-TURNS_KEPT).map((turn): Turn => ({ ...turn, images: [] }));
  return { ...conversation, turns };
}

/** An answer that was being written when the page closed will not go on; an older page kept less of each. */
function revived(conversation: Conversation): Conversation {
  const turns = conversation.turns.map((turn): Turn => {
    const isOpen = turn.answer.status === "waiting" || turn.answer.status === "streaming";
    const answer = { ...freshAnswer(turn.answer.id), ...turn.answer };
    return { ...turn, answer: isOpen ? { ...answer, status: "cut" } : answer };
  });
  return { ...conversation, turns };
}

function isConversation(value: unknown): value is Conversation {
  if (typeof value !== "object" || value === null) return false;
  const { id, turns, changedAt } = value as Partial<Conversation>;
  if (typeof id !== "string" || typeof changedAt !== "number" || !Array.isArray(turns) || turns.length === 0)
    return false;
  return turns.every((turn) => typeof turn.text === "string" && typeof turn.answer?.text === "string");
}
