import { ASK, mailInFragment, readClick, takenWords, type Shown } from "./notice";

/** A message that somebody clicked on, in a notification. */
export interface Opened {
  id: string;
  /** What the notification said; null where only the address of the page names the message. */
  shown: Shown | null;
  /** By the notification's button. Never by an address, which anybody can give somebody to follow. */
  isAcknowledged: boolean;
}

/** Hears of clicks on notifications, also of those that came before, while the page had no key or was not open. Returns
 * what ends the hearing. */
export function hearOfOpened(onOpened: (opened: Opened) => void): () => void {
  const onMessage = ({ data, source }: MessageEvent<unknown>) => {
    const click = readClick(data);
    if (!click) return;
    (source as ServiceWorker | null)?.postMessage(takenWords(click)); // else it tells the next page, too
    onOpened({ id: click.shown.id, ...click });
  };
  const onFragment = () => {
    const id = mailInFragment(window.location.hash);
    if (id === null) return;
    window.history.replaceState(null, "", window.location.pathname + window.location.search);
    onOpened({ id, shown: null, isAcknowledged: false });
  };
  const container = "serviceWorker" in navigator ? navigator.serviceWorker : null;
  container?.addEventListener("message", onMessage);
  container?.startMessages();
  window.addEventListener("hashchange", onFragment);
  onFragment();
  void askWorker();
  return () => {
    container?.removeEventListener("message", onMessage);
    window.removeEventListener("hashchange", onFragment);
  };
}

/** It has what was clicked: what the notification said, too, for this page may not be allowed to read the message. */
async function askWorker(): Promise<void> {
  if (!("serviceWorker" in navigator)) return;
  const registration = await navigator.serviceWorker.getRegistration(document.baseURI);
  registration?.active?.postMessage(ASK);
}
