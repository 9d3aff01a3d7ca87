import type { HubApi } from "../hub/api";
import { AnswerCut, isAbort, readAnswer, type Piece } from "../hub/completion";
import { failureOf, Problem, type Failure } from "../hub/problem";
import { Store } from "../hub/store";
import { uuid4 } from "../hub/uuid";
import type { Archive } from "./archive";
import { chatReducer, type Answer, type AnswerStatus, type ChatAction, type ChatState, type Thumb } from "./conversation";
import { promptFor } from "./prompt";

/** Words that arrive within this time are shown together: one rendering a word would cost more than the model does. */
const SHOW_EVERY_MS = 40;

/** Asks the models and keeps the conversations. */
export class ChatSession {
  readonly store: Store<ChatState, ChatAction>;
  #controller: AbortController | null = null;
  #isForgetting = false;

  constructor(
    private readonly api: HubApi,
    private readonly archive: Archive,
  ) {
    this.store = new Store(chatReducer, archive.load(uuid4(), Date.now()));
  }

  begin(): void {
    this.store.dispatch({ type: "began", id: uuid4(), at: Date.now() });
  }

  open(id: string): void {
    this.store.dispatch({ type: "opened", id, at: Date.now() });
  }

  remove(id: string): void {
    if (this.store.state.running?.conversation === id) this.stop();
    this.archive.remove(id);
    this.store.dispatch({ type: "removed", id, fresh: uuid4(), at: Date.now() });
  }

  ask(text: string, images: string[], model: string): void {
    const turn = { id: uuid4(), text, images, imageCount: images.length, askedAt: Date.now() };
    this.#start((answer) => ({ type: "asked", turn, answer }), model);
  }

  /** Ask the last question of the open conversation once more; its old answer is replaced. */
  retry(model: string): void {
    this.#start((answer) => ({ type: "asked_again", answer, at: Date.now() }), model);
  }

  /** Say whether an answer was good. It shows at once, and is taken back when the hub does not take it. */
  async judge(answer: Answer, thumb: Thumb): Promise<void> {
    this.store.dispatch({ type: "judged", answer: answer.id, thumb });
    try {
      await this.api.open("api/feedback", { body: { decision: answer.decision, thumb } });
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      this.store.dispatch({ type: "judged", answer: answer.id, thumb: answer.thumb });
    }
    const owner = this.store.state.conversations.find(({ turns }) => turns.some((turn) => turn.answer.id === answer.id));
    if (owner) this.#save(owner.id);
  }

  stop(): void {
    this.#controller?.abort();
  }

  /** The page is about to go: keep what has been written of an answer. */
  readonly keep = (): void => {
    const { running } = this.store.state;
    if (running) this.#save(running.conversation);
  };

  /** What was kept is about to be removed: write nothing more. */
  forget(): void {
    this.#isForgetting = true;
  }

  #start(action: (answer: string) => ChatAction, model: string): void {
    const answer = uuid4();
    this.store.dispatch(action(answer));
    const { running, current } = this.store.state;
    if (running?.answer !== answer) return;
    this.#save(current.id);
    void this.#run(answer, current.id, { model, messages: promptFor(current.turns), stream: true });
  }

  async #run(answer: string, conversation: string, body: object): Promise<void> {
    const controller = new AbortController();
    this.#controller = controller;
    const writer = new Writer(this.store, answer);
    let end: { status: AnswerStatus; failure: Failure | null };
    try {
      const response = await this.api.open("v1/chat/completions", { body, signal: controller.signal });
      const { headers } = response;
      const named = (name: string) => headers.get(`x-autoglm-${name}`) ?? "";
      const names = { model: named("model"), instance: named("instance"), decision: named("decision") };
      this.store.dispatch({ type: "answering", answer, ...names });
      if (response.body === null) throw new AnswerCut("no body");
      for await (const piece of readAnswer(response.body)) writer.add(piece);
      end = { status: "done", failure: null };
    } catch (error) {
      end = endingFor(error, controller.signal.aborted);
    }
    writer.flush();
    this.store.dispatch({ type: "ended", answer, ...end });
    if (this.#controller === controller) this.#controller = null;
    this.#save(conversation);
  }

  #save(id: string): void {
    const { conversations } = this.store.state;
    const conversation = conversations.find((one) => one.id === id);
    if (conversation && !this.#isForgetting) this.archive.save(conversation, conversations);
  }
}

function endingFor(error: unknown, isStopped: boolean): { status: AnswerStatus; failure: Failure | null } {
  if (isStopped || isAbort(error)) return { status: "stopped", failure: null };
  if (error instanceof AnswerCut) return { status: "cut", failure: null };
  if (!(error instanceof Problem)) throw error;
  return { status: "failed", failure: failureOf(error) };
}

/** Collects pieces and hands them to the store a few times a second. */
class Writer {
  readonly #startedAt = performance.now();
  #firstTokenMs: number | null = null;
  #text = "";
  #reasoning = "";
  #finish = "";
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly store: Store<ChatState, ChatAction>,
    private readonly answer: string,
  ) {}

  add(piece: Piece): void {
    if (piece.kind === "finish") this.#finish = piece.reason;
    else {
      this.#firstTokenMs ??= performance.now() - this.#startedAt;
      if (piece.kind === "text") this.#text += piece.text;
      else this.#reasoning += piece.text;
    }
    this.#timer ??= setTimeout(() => this.flush(), SHOW_EVERY_MS);
  }

  flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#text === "" && this.#reasoning === "" && this.#finish === "") return;
    const written = { text: this.#text, reasoning: this.#reasoning, finish: this.#finish };
    this.#text = this.#reasoning = this.#finish = "";
    this.store.dispatch({ type: "wrote", answer: this.answer, firstTokenMs: this.#firstTokenMs, ...written });
  }
}
