import { CopyButton } from "./copy-button";

/** Something to be typed or sent elsewhere. */
export function CopyBox({ content, label }: { content: string; label: string }) {
  return (
    <div className="copy-box" role="group" aria-label={label}>
      <code tabIndex={0}>{content}</code>
      <CopyButton text={content} />
    </div>
  );
}
