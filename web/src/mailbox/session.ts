import type { HubApi } from "../hub/api";
import { readFrame, type Frame } from "../hub/frames";
import { failureOf, fieldsOf, Problem } from "../hub/problem";
import type { Shelf } from "../hub/shelf";
import { HubSocket, type Connection, type Place } from "../hub/socket";
import { Store } from "../hub/store";
import { uuid4 } from "../hub/uuid";
import type { Shown } from "../push/notice";
import { MailCache } from "./cache";
import { glimpsed, newestFirst, owesConfirmation, received, type Confirmation, type Mail } from "./mail";
import { mailboxReducer, type MailboxAction, type MailboxState } from "./mailbox";
import { Outbox, type Outgoing } from "./outbox";

/** Frames that arrive within this time are shown together; a mailbox that catches up may get thousands. */
const SHOW_EVERY_MS = 30;
const TRY_AGAIN_MS = 5_000;

/** Keeps the mailbox in step with the hub: reads on from where it was, sends what waits, confirms what was read. */
export class MailboxSession {
  readonly store: Store<MailboxState, MailboxAction>;
  readonly address: string;
  readonly #socket: HubSocket;
  readonly #cache: MailCache;
  readonly #outbox: Outbox;
  readonly #hollow: string[];
  #frames: Frame[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;
  #resendTimer: ReturnType<typeof setTimeout> | undefined;
  #isForgetting = false;

  constructor(
    private readonly api: HubApi,
    place: Place,
    shelf: Shelf,
    private readonly onUnauthorized: () => void,
  ) {
    this.address = place.address;
    this.#cache = new MailCache(shelf, place.address);
    this.#outbox = new Outbox(shelf, place.address);
    const { state, hollow } = this.#cache.load();
    this.#hollow = hollow;
    this.store = new Store(mailboxReducer, state);
    this.#adoptOutbox();
    this.#socket = new HubSocket(place, {
      onConnection: (connection) => this.#onConnection(connection),
      onOther: onUnauthorized,
      onFrame: (frame) => this.#onFrame(frame),
    });
  }

  start(): void {
    this.#socket.start();
  }

  stop(): void {
    this.#socket.stop();
    clearTimeout(this.#resendTimer);
    this.#flush();
  }

  /** What was kept is about to be removed: write nothing more. */
  forget(): void {
    this.#isForgetting = true;
  }

  readonly reconnect = (): void => this.#socket.retryNow();

  /** Another sign says that the hub is gone. */
  readonly drop = (): void => this.#socket.drop();

  /** False when the browser could not keep the message for later; it is then sent only while the page stays open. */
  send(to: string, text: string, answered: Mail | null): boolean {
    const id = uuid4();
    const message: Outgoing = { id, to, content: text, timestamp: Date.now() };
    if (answered) message.reply_to = answered.message.id;
    const thread = answered?.message.thread ?? (to.startsWith("model:") ? id : undefined);
    if (thread !== undefined) message.thread = thread; // so that the model sees what was said before
    const isKept = this.#outbox.add(message);
    this.#dispatch({ type: "queued", message: this.#signed(message) });
    this.#sendOne(message);
    return isKept;
  }

  confirm(ids: readonly string[], state: Confirmation): void {
    if (ids.length === 0) return;
    this.#dispatch({ type: "wanted", ids, state });
    for (const id of ids) this.#confirmOne(this.store.state.mails.get(id));
  }

  /** Have a message in the list that a notification was about; from the hub, else as far as the notification goes. */
  async open(id: string, shown: Shown | null): Promise<void> {
    if (this.store.state.mails.has(id)) return;
    let isAway = false;
    const body = await this.api.json(`api/messages/${encodeURIComponent(id)}`).catch((error: unknown) => {
      isAway = error instanceof Problem && error.isPassing;
      return null;
    });
    const frame = body === null ? null : readFrame(JSON.stringify({ type: "message", message: body }));
    if (frame?.type === "message") this.#dispatch({ type: "opened", mail: received(frame.message) });
    else if (shown !== null) this.#dispatch({ type: "opened", mail: glimpsed(shown, this.address, isAway) });
  }

  /** Take a refused message out of the list. */
  discard(id: string): void {
    this.#dispatch({ type: "discarded", id });
  }

  /** Show what waits to be sent; a mail that is marked so but lies in no outbox did not survive a reload. */
  #adoptOutbox(): void {
    const waiting = this.#outbox.waiting();
    for (const message of waiting) this.store.dispatch({ type: "queued", message: this.#signed(message) });
    const ids = new Set(waiting.map(({ id }) => id));
    const failure = { status: 0, code: "not_kept", detail: "", retryAfterS: null };
    for (const [id, { delivery }] of this.store.state.mails)
      if (delivery === "queued" && !ids.has(id)) this.store.dispatch({ type: "refused", id, failure });
  }

  #signed(message: Outgoing) {
    return { ...message, from: this.address };
  }

  #onConnection(connection: Connection): void {
    this.#flush();
    this.#dispatch({ type: "connection", connection });
    if (connection === "online") void this.#resume();
  }

  async #resume(): Promise<void> {
    if (await this.#isOtherLog()) this.#dispatch({ type: "log_changed" });
    this.#socket.send({ type: "subscribe", to: this.address, after: this.store.state.lastSeq });
    this.#sendAll();
    for (const mail of this.store.state.mails.values()) this.#confirmOne(mail);
    for (const id of this.#hollow.splice(0)) await this.#fill(id);
  }

  /** Whether the hub no longer knows our newest message: its data were replaced, and our place in its log is void. */
  async #isOtherLog(): Promise<boolean> {
    const newest = newestFirst(this.store.state.mails.values()).find((mail) => mail.seq !== null);
    if (!newest) return false;
    try {
      await this.api.json(`api/messages/${encodeURIComponent(newest.message.id)}`);
      return false;
    } catch (error) {
      return error instanceof Problem && error.status === 404;
    }
  }

  async #fill(id: string): Promise<void> {
    const body = await this.api.json(`api/messages/${encodeURIComponent(id)}`).catch(() => null);
    const seq = this.store.state.mails.get(id)?.seq ?? 0;
    const frame =
      body === null ? null : readFrame(JSON.stringify({ type: "message", message: { ...fieldsOf(body), seq } }));
    if (frame && this.store.state.mails.has(id)) this.#dispatch({ type: "frames", frames: [frame] });
  }

  #onFrame(frame: Frame): void {
    if (frame.type === "error") this.#onProblem(frame.ref, frame.problem);
    this.#frames.push(frame);
    this.#timer ??= setTimeout(() => this.#flush(), SHOW_EVERY_MS);
  }

  #flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const frames = this.#frames;
    this.#frames = [];
    if (frames.length === 0) return;
    this.#dispatch({ type: "frames", frames });
    // Only now: had the page closed before the state was kept, the message would be neither here nor there.
    for (const frame of frames) if (frame.type === "accepted") this.#outbox.settle(frame.id);
  }

  #onProblem(ref: string, problem: Problem): void {
    const [about, id] = [ref.slice(0, ref.indexOf(":")), ref.slice(ref.indexOf(":") + 1)];
    if (problem.status === 401) this.onUnauthorized();
    else if (about === "ack" && !problem.isPassing) this.#dispatch({ type: "not_confirmed", id });
    else if (about === "send" && problem.isPassing) this.#sendLater(problem.retryAfterS);
    else if (about === "send") {
      this.#dispatch({ type: "refused", id, failure: failureOf(problem) });
      this.#outbox.settle(id);
    }
  }

  #sendLater(retryAfterS: number | null): void {
    clearTimeout(this.#resendTimer);
    const waitMs = retryAfterS === null ? TRY_AGAIN_MS : Math.max(1, retryAfterS) * 1_000;
    this.#resendTimer = setTimeout(() => this.#sendAll(), waitMs);
  }

  #sendAll(): void {
    for (const message of this.#outbox.waiting()) this.#sendOne(message);
  }

  #sendOne(message: Outgoing): void {
    this.#socket.send({ type: "send", ref: `send:${message.id}`, message });
  }

  #confirmOne(mail: Mail | undefined): void {
    if (!mail || !owesConfirmation(mail) || mail.wanted === null) return;
    const { id, to } = mail.message;
    if (to.startsWith("group:")) void this.#confirmForGroup(id, mail.wanted);
    else this.#socket.send({ type: "ack", ref: `ack:${id}`, id, state: mail.wanted });
  }

  /** A message to a group has many readers, so the hub must be told which one; the WebSocket's `ack` cannot say it. */
  async #confirmForGroup(id: string, state: Confirmation): Promise<void> {
    try {
      await this.api.open(`api/messages/${encodeURIComponent(id)}/ack`, { body: { by: this.address, state } });
      this.#dispatch({ type: "frames", frames: [{ type: "acked", id, state }] });
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      if (!error.isPassing) this.#dispatch({ type: "not_confirmed", id });
    }
  }

  #dispatch(action: MailboxAction): void {
    const before = this.store.state;
    this.store.dispatch(action);
    if (!this.#isForgetting) this.#cache.save(before, this.store.state);
  }
}
