import type { Failure } from "../hub/problem";

/** `waiting`: asked, no word yet. `cut`: the stream ended before the answer did. */
export type AnswerStatus = "waiting" | "streaming" | "done" | "stopped" | "cut" | "failed";

export type Thumb = "up" | "down";

export interface Answer {
  id: string;
  text: string;
  reasoning: string;
  status: AnswerStatus;
  model: string;
  instance: string;
  firstTokenMs: number | null;
  /** Why the model ended: `stop`, `length`, `content_filter`, ... */
  finish: string;
  failure: Failure | null;
  /** Names the hub's choice of the model; empty where the hub had none to make, or does not learn. */
  decision: string;
  thumb: Thumb | null;
}

/** A question and its answer. */
export interface Turn {
  id: string;
  text: string;
  /** `data:` URLs; empty after a reload, since images are not kept. */
  images: string[];
  imageCount: number;
  askedAt: number;
  answer: Answer;
}

export interface Conversation {
  id: string;
  turns: Turn[];
  changedAt: number;
}

export interface ChatState {
  /** The newest first. */
  conversations: Conversation[];
  current: Conversation;
  /** The answer that is being written, in whichever conversation; one at a time. */
  running: { conversation: string; answer: string } | null;
}

export type ChatAction =
  | { type: "began"; id: string; at: number }
  | { type: "opened"; id: string; at: number }
  | { type: "removed"; id: string; fresh: string; at: number }
  | { type: "asked"; turn: Omit<Turn, "answer">; answer: string }
  | { type: "asked_again"; answer: string; at: number }
  | { type: "answering"; answer: string; model: string; instance: string; decision: string }
  | { type: "judged"; answer: string; thumb: Thumb | null }
  | { type: "wrote"; answer: string; text: string; reasoning: string; finish: string; firstTokenMs: number | null }
  | { type: "ended"; answer: string; status: AnswerStatus; failure: Failure | null };

export function emptyConversation(id: string, at: number): Conversation {
  return { id, turns: [], changedAt: at };
}

export function freshAnswer(id: string): Answer {
  return {
    id,
    text: "",
    reasoning: "",
    status: "waiting",
    model: "",
    instance: "",
    firstTokenMs: null,
    finish: "",
    failure: null,
    decision: "",
    thumb: null,
  };
}

export function chatReducer(state: ChatState, action: ChatAction): ChatState {
  switch (action.type) {
    case "began":
      return state.current.turns.length === 0 ? state : { ...state, current: emptyConversation(action.id, action.at) };
    case "opened": {
      const found = state.conversations.find((conversation) => conversation.id === action.id);
      return found ? { ...state, current: found } : state;
    }
    case "removed": {
      const conversations = state.conversations.filter((conversation) => conversation.id !== action.id);
      const current = state.current.id === action.id ? emptyConversation(action.fresh, action.at) : state.current;
      const running = state.running?.conversation === action.id ? null : state.running;
      return { conversations, current, running };
    }
    case "asked": {
      if (state.running) return state;
      const turn: Turn = { ...action.turn, answer: freshAnswer(action.answer) };
      const { current } = state;
      const asked = { ...current, turns: [...current.turns, turn], changedAt: turn.askedAt };
      return { ...put(state, asked), running: { conversation: current.id, answer: action.answer } };
    }
    case "asked_again": {
      const last = state.current.turns.at(-1);
      if (state.running || !last) return state;
      const turns = [...state.current.turns.slice(0, -1), { ...last, answer: freshAnswer(action.answer) }];
      const running = { conversation: state.current.id, answer: action.answer };
      return { ...put(state, { ...state.current, turns, changedAt: action.at }), running };
    }
    case "answering":
      return changeAnswer(state, action.answer, () => ({
        model: action.model,
        instance: action.instance,
        decision: action.decision,
      }));
    case "judged":
      return changeEverywhere(state, action.answer, () => ({ thumb: action.thumb }));
    case "wrote":
      return changeAnswer(state, action.answer, (answer) => ({
        status: "streaming",
        text: answer.text + action.text,
        reasoning: answer.reasoning + action.reasoning,
        finish: action.finish || answer.finish,
        firstTokenMs: answer.firstTokenMs ?? action.firstTokenMs,
      }));
    case "ended": {
      const ended = changeAnswer(state, action.answer, () => ({ status: action.status, failure: action.failure }));
      return ended.running?.answer === action.answer ? { ...ended, running: null } : ended;
    }
  }
}

function put(state: ChatState, conversation: Conversation): ChatState {
  const others = state.conversations.filter((other) => other.id !== conversation.id);
  const current = state.current.id === conversation.id ? conversation : state.current;
  return { ...state, conversations: [conversation, ...others], current };
}

/** Only the running answer changes; words that come after it ended are dropped. */
function changeAnswer(state: ChatState, id: string, change: (answer: Answer) => Partial<Answer>): ChatState {
  return state.running?.answer === id ? changeEverywhere(state, id, change) : state;
}

function changeEverywhere(state: ChatState, id: string, change: (answer: Answer) => Partial<Answer>): ChatState {
  const changed = (conversation: Conversation): Conversation => {
    if (conversation.turns.every((turn) => turn.answer.id !== id)) return conversation;
    const turns = conversation.turns.map((turn) =>
      turn.answer.id === id ? { ...turn, answer: { ...turn.answer, ...change(turn.answer) } } : turn,
    );
    return { ...conversation, turns };
  };
  const conversations = state.conversations.map(changed);
  const current = conversations.find((conversation) => conversation.id === state.current.id) ?? state.current;
  return { ...state, conversations, current };
}

export function titleOf(conversation: Conversation): string {
  return conversation.turns[0]?.text.trim().replace(/\s+/g, " ").slice(0, 80) ?? "";
}
