import { mailInFragment, readClick, type Shown } from "./notice";

/** A message that somebody clicked on, in a notification. */
export interface Opened {
  id: string;
  /** What the notification said; null where only the address of the page names the message. */
  shown: Shown | null;
  /** By the notification's button. Never by an address, which anybody can give somebody to follow. */
  isAcknowledged: boolean;
}

/** Hears of clicks on notifications, also of the one that opened this page. Returns what ends the hearing. */
export function hearOfOpened(onOpened: (opened: Opened) => void): () => void {
  const onMessage = ({ data }: MessageEvent<unknown>) => {
    const click = readClick(data);
    if (click) onOpened({ id: click.shown.id, ...click });
  };
  const onFragment = () => {
    const id = mailInFragment(window.location.hash);
    if (id === null) return;
    window.history.replaceState(null, "", window.location.pathname + window.location.search);
    onOpened({ id, shown: null, isAcknowledged: false });
    void askWorker();
  };
  const container = "serviceWorker" in navigator ? navigator.serviceWorker : null;
  container?.addEventListener("message", onMessage);
  container?.startMessages();
  window.addEventListener("hashchange", onFragment);
  onFragment();
  return () => {
    container?.removeEventListener("message", onMessage);
    window.removeEventListener("hashchange", onFragment);
  };
}

/** It still has what was clicked: this page may not be allowed to read the message itself. */
async function askWorker(): Promise<void> {
  if (!("serviceWorker" in navigator)) return;
  const registration = await navigator.serviceWorker.getRegistration(document.baseURI);
  registration?.active?.postMessage("clicked");
}
