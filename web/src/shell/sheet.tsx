import { useId, type ReactNode } from "react";
import { useText } from "../text/language";
import { Icon } from "./icons";
import { useModal } from "./modal";

interface Props {
  title: string;
  onClose: () => void;
  children: ReactNode;
}

/** A dialog over the page. Escape and its button close it; the focus then goes back to where it was. */
export function Sheet({ title, onClose, children }: Props) {
  const text = useText();
  const dialog = useModal();
  const heading = useId();
  return (
    <dialog ref={dialog} className="sheet" aria-labelledby={heading} onClose={onClose}>
      <div className="sheet-head">
        <h2 id={heading}>{title}</h2>
        <button
          type="button"
          className="quiet square"
          aria-label={text.close}
          title={text.close}
          onClick={() => dialog.current?.close()}
        >
          <Icon name="close" />
        </button>
      </div>
      <div className="sheet-body">{children}</div>
    </dialog>
  );
}
