import { CopyButton } from "../shell/copy-button";

/** A block of code, which scrolls sideways on its own, with a button that copies it. */
export function CodeBlock({ text, language }: { text: string; language: string }) {
  const name = language.split(/\s/)[0] ?? "";
  return (
    <div className="code-block">
      <div className="code-head">
        <span>{name}</span>
        <CopyButton text={text} />
      </div>
      <pre tabIndex={0}>
        <code>{text}</code>
      </pre>
    </div>
  );
}
