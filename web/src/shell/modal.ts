import { useEffect, useRef, type RefObject } from "react";

/** A dialog that shows itself over all else. The focus goes to what is marked `data-first`: React's own `autoFocus` comes
 * too early for it, as nothing in a closed dialog takes the focus. */
export function useModal(): RefObject<HTMLDialogElement | null> {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => showModal(dialog.current), []);
  return dialog;
}

export function showModal(dialog: HTMLDialogElement | null): void {
  if (!dialog || dialog.open) return;
  dialog.showModal();
  dialog.querySelector<HTMLElement>("[data-first='true']")?.focus();
}
