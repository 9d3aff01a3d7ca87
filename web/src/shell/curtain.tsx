import type { ReactNode } from "react";
import { showModal, useModal } from "./modal";

/** Covers the page while somebody has to log in again. What is behind stays as it is, and cannot be reached. */
export function Curtain({ children }: { children: ReactNode }) {
  return (
    // Escape closes a dialog at the second press, whatever its page says: then it opens again.
    <dialog
      ref={useModal()}
      className="curtain"
      onCancel={(event) => event.preventDefault()}
      onClose={(event) => showModal(event.currentTarget)}
    >
      {children}
    </dialog>
  );
}
