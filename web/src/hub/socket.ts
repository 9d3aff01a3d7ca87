import { waitBefore } from "./backoff";
import { readFrame, type Frame } from "./frames";

/** `waiting`: the connection broke and a new attempt comes by itself. */
export type Connection = "connecting" | "online" | "waiting";

const WELCOME_TIMEOUT_MS = 10_000;
const STABLE_AFTER_MS = 5_000;

export interface SocketListener {
  onConnection(connection: Connection): void;
  /** The hub takes this browser for somebody else: another page has logged in. */
  onOther(): void;
  onFrame(frame: Frame): void;
}

export interface Place {
  url: string;
  /** Null where the browser's session stands for it, whose cookie comes with the handshake. */
  key: string | null;
  address: string;
}

/** One WebSocket to the hub that comes back by itself: hello first, then frames; growing waits between attempts. */
export class HubSocket {
  #socket: WebSocket | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #attempt = 0;
  #isRunning = false;
  #isOnline = false;

  constructor(
    private readonly place: Place,
    private readonly listener: SocketListener,
  ) {}

  start(): void {
    if (this.#isRunning) return;
    this.#isRunning = true;
    window.addEventListener("online", this.retryNow);
    window.addEventListener("offline", this.drop);
    document.addEventListener("visibilitychange", this.#onVisible);
    this.#connect();
  }

  stop(): void {
    this.#isRunning = false;
    window.removeEventListener("online", this.retryNow);
    window.removeEventListener("offline", this.drop);
    document.removeEventListener("visibilitychange", this.#onVisible);
    this.#release();
  }

  /** False when there is no connection just now; the frame is then not sent and not kept. */
  send(frame: object): boolean {
    if (!this.#isOnline || this.#socket?.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(JSON.stringify(frame));
    return true;
  }

  /** Do not wait any longer for the next attempt. */
  readonly retryNow = (): void => {
    if (!this.#isRunning || this.#isOnline) return;
    this.#attempt = 0;
    this.#connect();
  };

  /** Give the connection up and begin anew: other signs say that it is dead, though TCP has not noticed. */
  readonly drop = (): void => {
    if (this.#isRunning && this.#socket) this.#lost(this.#socket);
  };

  readonly #onVisible = (): void => {
    if (document.visibilityState === "visible") this.retryNow();
  };

  #connect(): void {
    this.#release();
    this.listener.onConnection("connecting");
    const { url, key, address } = this.place;
    const socket = new WebSocket(url);
    this.#socket = socket;
    this.#timer = setTimeout(() => this.#lost(socket), WELCOME_TIMEOUT_MS);
    socket.onopen = () => socket.send(JSON.stringify({ type: "hello", ...(key === null ? {} : { key }) }));
    socket.onclose = () => this.#lost(socket);
    socket.onmessage = (event: MessageEvent<unknown>) => {
      const frame = typeof event.data === "string" ? readFrame(event.data) : null;
      if (frame === null || this.#socket !== socket) return;
      if (frame.type === "welcome" && frame.address !== address) {
        // What waits here to be sent is not theirs, and must not go out in their name.
        this.#lost(socket);
        this.listener.onOther();
        return;
      }
      if (frame.type === "welcome") this.#welcomed();
      this.listener.onFrame(frame);
    };
  }

  #welcomed(): void {
    clearTimeout(this.#timer);
    // A hub that welcomes and then drops us at once would otherwise be asked again without any wait.
    this.#timer = setTimeout(() => (this.#attempt = 0), STABLE_AFTER_MS);
    this.#isOnline = true;
    this.listener.onConnection("online");
  }

  #lost(socket: WebSocket): void {
    if (this.#socket !== socket || !this.#isRunning) return;
    this.#release();
    this.listener.onConnection("waiting");
    this.#timer = setTimeout(() => this.#connect(), waitBefore(this.#attempt++));
  }

  #release(): void {
    clearTimeout(this.#timer);
    this.#isOnline = false;
    const socket = this.#socket;
    this.#socket = null;
    if (socket === null) return;
    socket.onopen = socket.onclose = socket.onmessage = null;
    socket.close();
  }
}
