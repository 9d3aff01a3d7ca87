/** The page's service worker: it shows what is pushed. It stores nothing, and no request of the page goes through it. */
import { preferredLanguage } from "../text/preferred";
import {
  ACKNOWLEDGE,
  ASK,
  bodyOf,
  buttonsOf,
  fragmentOf,
  isUrgent,
  readNotice,
  readShown,
  readTaken,
  shownWith,
  tagOf,
  type Click,
} from "./notice";

declare const self: ServiceWorkerGlobalScope;

/** Not in every version of the types. */
interface Options extends NotificationOptions {
  renotify?: boolean;
  actions?: { action: string; title: string }[];
}

interface Waiting {
  click: Click;
  timer: ReturnType<typeof setTimeout>;
  resolve: () => void;
}

let last: Promise<void> = Promise.resolve();
/** By message: clicks that no page has taken yet. A page asks for them as soon as it has a key. */
const waiting = new Map<string, Waiting>();
/** Browsers end a worker that has nothing to do after half a minute, and one that is at work for over five minutes. */
const HELD_MS = 240_000;

self.addEventListener("install", () => void self.skipWaiting());

self.addEventListener("push", (event) => {
  // One after the other: pieces of one message come together.
  last = last.then(() => show(event.data)).catch(showThatSomethingCame);
  event.waitUntil(last);
});

self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  const shown = readShown(event.notification.data);
  // The page acknowledges, with the key that it has: the worker has none, and an address alone shall do nothing.
  const click = shown && { shown, isAcknowledged: event.action === ACKNOWLEDGE };
  event.waitUntil(Promise.all([click && hold(click), open(click)]));
});

self.addEventListener("message", ({ data, source }) => {
  if (data === ASK) for (const { click } of waiting.values()) source?.postMessage({ type: "open", ...click });
  const taken = readTaken(data);
  if (taken !== null) end(taken);
});

self.addEventListener("pushsubscriptionchange", (event) => {
  // The page tells the hub of the new one when it opens next; until then the hub says that the old one has ended.
  const { oldSubscription } = event as Event & { oldSubscription?: PushSubscription };
  const options = oldSubscription?.options;
  if (options) (event as ExtendableEvent).waitUntil(self.registration.pushManager.subscribe(options));
});

async function show(data: PushMessageData | null): Promise<void> {
  const notice = readNotice(data?.json());
  if (notice === null) return showThatSomethingCame();
  const tag = tagOf(notice);
  const [before] = await self.registration.getNotifications({ tag });
  const known = readShown(before?.data);
  const shown = shownWith(notice, known);
  const options: Options = {
    tag,
    body: bodyOf(shown),
    data: shown,
    timestamp: notice.time,
    renotify: known?.id !== notice.id, // a repeat, and a further piece, make no sound
    requireInteraction: isUrgent(notice),
    actions: buttonsOf(notice, preferredLanguage(self.navigator.languages)), // left out by browsers without buttons
  } as Options;
  await self.registration.showNotification(notice.from, options);
}

/** Browsers take push away from a page that shows nothing. */
async function showThatSomethingCame(): Promise<void> {
  await self.registration.showNotification("AutoGLM Hub", { tag: "something" });
}

/** Until a page takes it: the only one that is open may be asking for its key. */
function hold(click: Click): Promise<void> {
  const { id } = click.shown;
  end(id); // the newest is the last
  return new Promise((resolve) => {
    const timer = setTimeout(() => end(id), HELD_MS);
    waiting.set(id, { click, timer, resolve });
  });
}

/** A click on this message waits no more. */
function end(id: string): void {
  const ended = waiting.get(id);
  waiting.delete(id);
  clearTimeout(ended?.timer);
  ended?.resolve();
}

async function open(click: Click | null): Promise<void> {
  const pages = await self.clients.matchAll({ type: "window", includeUncontrolled: true });
  const page = pages.find(({ url }) => url.startsWith(self.registration.scope));
  if (page) {
    page.postMessage({ type: "open", ...click });
    await page.focus();
    return;
  }
  await self.clients.openWindow(self.registration.scope + (click === null ? "" : fragmentOf(click.shown.id)));
}
