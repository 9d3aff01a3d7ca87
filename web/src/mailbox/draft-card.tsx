import { Dots } from "../chat/turn-view";
import { Markdown } from "../markdown/markdown";
import { useText } from "../text/language";
import type { Draft } from "./mailbox";

/** An answer while it is being written; the message itself takes its place. */
export function DraftCard({ draft }: { draft: Draft }) {
  const text = useText();
  return (
    <article className="card mail draft" aria-busy="true" aria-label={text.isWriting(draft.from)}>
      <header className="mail-head">
        <strong className="address">{draft.from}</strong>
        <span className="hint">{text.writing}</span>
        <Dots />
      </header>
      <Markdown text={draft.text} />
    </article>
  );
}
