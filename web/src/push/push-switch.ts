import type { HubApi } from "../hub/api";
import { failureOf, fieldsOf, Problem, textOr, type Failure } from "../hub/problem";
import type { Shelf } from "../hub/shelf";
import { Store } from "../hub/store";
import workerUrl from "./worker?worker&url";

export type PushState =
  /** Not asked yet. */
  | "unknown"
  /** The page came over plain HTTP from another machine. */
  | "insecure"
  | "unsupported"
  /** The hub cannot push; `why` has its own words. */
  | "not_set_up"
  /** Somebody refused notifications of this page, in the browser's settings. */
  | "blocked"
  | "off"
  | "on";

export interface PushView {
  state: PushState;
  isBusy: boolean;
  /** What the hub said no to, or that it cannot be reached. */
  failure: Failure | null;
  /** Where the browser itself failed: it cannot reach its maker's push service, or does not take the page's worker. */
  trouble: "service" | "worker" | null;
  /** The hub's words on why it cannot push. */
  why: { en: string; zh: string; fix: string };
}

/** Asking the push service may take for ever where its network is blocked. */
const SUBSCRIBE_TIMEOUT_MS = 30_000;
const NO_WORDS = { en: "", zh: "", fix: "" };

/** Switches notifications in this browser on and off. What is on for one person is off for the next who signs in. */
export class PushSwitch {
  readonly store = new Store<PushView, Partial<PushView>>((view, change) => ({ ...view, ...change }), {
    state: "unknown",
    isBusy: false,
    failure: null,
    trouble: null,
    why: NO_WORDS,
  });
  #running: Promise<void> = Promise.resolve();
  readonly #scope = new URL(".", document.baseURI).href;

  constructor(
    private readonly api: HubApi,
    private readonly shelf: Shelf,
    private readonly address: string,
  ) {}

  /** Was it on when this page was here last? Then see that the hub still knows. */
  readonly resume = (): void => {
    if (this.shelf.get("push") !== undefined) void this.look();
  };

  readonly look = (): Promise<void> => this.#during(() => this.#look());

  /** Called by a click: browsers ask for permission at no other time. */
  readonly turnOn = (): Promise<void> => this.#during(() => this.#turnOn());

  readonly turnOff = (): Promise<void> =>
    this.#during(async () => {
      await this.forget();
      return "off";
    });

  /** The browser takes nothing more, and the hub is told. */
  private async forget(): Promise<void> {
    const id = this.#kept()?.id;
    this.shelf.drop("push");
    const registration = await this.#registration();
    await (await registration?.pushManager.getSubscription())?.unsubscribe();
    await registration?.unregister();
    if (id === undefined) return;
    try {
      await this.api.open(`api/push/subscriptions/${encodeURIComponent(id)}`, { method: "DELETE" });
    } catch (error) {
      if (!(error instanceof Problem)) throw error; // the hub finds out by itself: the push service tells it
    }
  }

  /** What a look that is under way notes down after the first time is forgotten, too. */
  readonly signOut = async (): Promise<void> => {
    await this.forget();
    await this.#running;
    await this.forget();
  };

  async #during(change: () => Promise<PushState>): Promise<void> {
    if (this.store.state.isBusy) return;
    this.#running = this.#carryOut(change);
    await this.#running;
  }

  async #carryOut(change: () => Promise<PushState>): Promise<void> {
    this.store.dispatch({ isBusy: true, failure: null, trouble: null });
    try {
      this.store.dispatch({ state: await change() });
    } catch (error) {
      if (error instanceof Problem) this.store.dispatch({ failure: failureOf(error) });
      else if (error instanceof Trouble) this.store.dispatch({ trouble: error.of });
      else throw error;
    } finally {
      this.store.dispatch({ isBusy: false });
    }
  }

  async #look(): Promise<PushState> {
    if (!window.isSecureContext) return "insecure";
    if (!("serviceWorker" in navigator && "PushManager" in window && "Notification" in window)) return "unsupported";
    const why = await this.#whyNot();
    this.store.dispatch({ why: why ?? NO_WORDS });
    if (why !== null) return "not_set_up";
    const subscription = await (await this.#registration())?.pushManager.getSubscription();
    if (Notification.permission === "granted" && subscription) {
      if (this.#kept()?.address === this.address) return this.#tellHub(subscription);
      await subscription.unsubscribe(); // somebody else's, who did not sign out
    }
    return Notification.permission === "denied" ? "blocked" : "off";
  }

  async #turnOn(): Promise<PushState> {
    const permission = await Notification.requestPermission(); // before all that takes time: it needs the click
    if (permission !== "granted") return permission === "denied" ? "blocked" : "off";
    const key = textOr(fieldsOf(await this.api.json("api/push/key"))["key"], "");
    const registration = await this.#registered();
    return this.#tellHub(await subscribed(registration.pushManager, key));
  }

  async #tellHub(subscription: PushSubscription): Promise<PushState> {
    const response = await this.api.open("api/push/subscriptions", { body: subscription.toJSON() });
    const id = textOr(fieldsOf(await response.json())["id"], "");
    this.shelf.put("push", { address: this.address, id });
    return "on";
  }

  async #registered(): Promise<ServiceWorkerRegistration> {
    try {
      await navigator.serviceWorker.register(workerUrl, { scope: this.#scope, updateViaCache: "none" });
    } catch {
      throw new Trouble("worker"); // a certificate that was accepted by hand is not enough for it
    }
    return navigator.serviceWorker.ready;
  }

  /** Null when the hub can push. */
  async #whyNot(): Promise<PushView["why"] | null> {
    const list = fieldsOf(await this.api.json("api/capabilities"))["capabilities"];
    const all = (Array.isArray(list) ? list : []).map(fieldsOf);
    const push = all.find(({ name }) => name === "push") ?? {};
    if (push["available"] === true) return null;
    return { en: textOr(push["why"], ""), zh: textOr(push["why_zh"], ""), fix: textOr(push["fix"], "") };
  }

  async #registration(): Promise<ServiceWorkerRegistration | undefined> {
    return "serviceWorker" in navigator ? navigator.serviceWorker.getRegistration(this.#scope) : undefined;
  }

  #kept(): { address: string; id: string } | null {
    const fields = fieldsOf(this.shelf.get("push"));
    const { address, id } = fields;
    return typeof address === "string" && typeof id === "string" ? { address, id } : null;
  }
}

class Trouble extends Error {
  constructor(readonly of: "service" | "worker") {
    super(of);
  }
}

async function subscribed(manager: PushManager, key: string): Promise<PushSubscription> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Trouble("service")), SUBSCRIBE_TIMEOUT_MS);
  });
  try {
    await (await manager.getSubscription())?.unsubscribe(); // it may be bound to the key of a hub that was here before
    return await Promise.race([manager.subscribe({ userVisibleOnly: true, applicationServerKey: key }), late]);
  } catch {
    throw new Trouble("service");
  } finally {
    clearTimeout(timer);
  }
}
