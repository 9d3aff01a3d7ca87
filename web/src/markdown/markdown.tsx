import { Lexer, type MarkedToken, type Token, type Tokens } from "marked";
import { Fragment, memo, type ReactNode } from "react";
import { useText } from "../text/language";
import { CodeBlock } from "./code-block";
import { decodeEntities } from "./entities";
import { safeHref } from "./links";

/**
 * Markdown (GitHub's kind) as React elements. HTML in the source is shown as text, links are checked, and pictures
 * become links, so that nothing in a message can run code or fetch from another origin.
 */
export const Markdown = memo(function Markdown({ text }: { text: string }) {
  const tokens = tokensOf(text);
  if (tokens === null) return <p className="plain">{text}</p>;
  return <div className="markdown">{blocks(tokens, 0)}</div>;
});

/** Above this the parser may take seconds on text that is made to slow it down (measured: 2.2 s for 50,000). */
const LONGEST_CHARS = 50_000;
const DEEPEST = 20;

/** Null for text that is better shown as it is: too long, or nested so deeply that the parser gives up. */
function tokensOf(text: string): Token[] | null {
  if (text.length > LONGEST_CHARS) return null;
  try {
    return new Lexer({ gfm: true, breaks: true }).lex(text);
  } catch (error) {
    if (error instanceof RangeError) return null; // the stack is full
    throw error;
  }
}

function blocks(tokens: readonly Token[], depth: number): ReactNode {
  if (depth > DEEPEST) return tokens.map((token) => token.raw).join("");
  return tokens.map((token, index) => <Fragment key={index}>{block(token as MarkedToken, depth)}</Fragment>);
}

function block(token: MarkedToken, depth: number): ReactNode {
  switch (token.type) {
    case "space":
    case "def":
      return null;
    case "heading": {
      // The page itself has h1 and h2; an answer's headings come below them.
      const Heading = `h${Math.min(6, token.depth + 2)}` as "h3";
      return <Heading>{inlines(token.tokens)}</Heading>;
    }
    case "paragraph":
      return <p>{inlines(token.tokens)}</p>;
    case "code":
      return <CodeBlock text={token.text} language={token.lang ?? ""} />;
    case "blockquote":
      return <blockquote>{blocks(token.tokens, depth + 1)}</blockquote>;
    case "hr":
      return <hr />;
    case "list":
      return list(token, depth);
    case "table":
      return table(token);
    case "html":
      return <p>{token.text.trimEnd()}</p>;
    case "text":
      return token.tokens ? inlines(token.tokens) : decodeEntities(token.text);
    default:
      return inline(token);
  }
}

function list(token: Tokens.List, depth: number): ReactNode {
  const items = token.items.map((item, index) => (
    <li key={index} className={item.task ? "task" : undefined}>
      {blocks(item.tokens, depth + 1)}
    </li>
  ));
  if (!token.ordered) return <ul>{items}</ul>;
  return <ol start={token.start === "" ? 1 : token.start}>{items}</ol>;
}

function table(token: Tokens.Table): ReactNode {
  const cell = (one: Tokens.TableCell, index: number) => {
    const Cell = one.header ? "th" : "td";
    return (
      <Cell key={index} className={one.align ? `align-${one.align}` : undefined}>
        {inlines(one.tokens)}
      </Cell>
    );
  };
  return (
    <div className="table-box" tabIndex={0}>
      <table>
        <thead>
          <tr>{token.header.map(cell)}</tr>
        </thead>
        <tbody>
          {token.rows.map((row, index) => (
            <tr key={index}>{row.map(cell)}</tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function inlines(tokens: readonly Token[]): ReactNode {
  return tokens.map((token, index) => <Fragment key={index}>{inline(token as MarkedToken)}</Fragment>);
}

function inline(token: MarkedToken): ReactNode {
  switch (token.type) {
    case "strong":
      return <strong>{inlines(token.tokens)}</strong>;
    case "em":
      return <em>{inlines(token.tokens)}</em>;
    case "del":
      return <del>{inlines(token.tokens)}</del>;
    case "codespan":
      return <code>{token.text}</code>;
    case "br":
      return <br />;
    case "checkbox":
      return <Tick isDone={token.checked} />;
    case "link":
      return <Link href={token.href}>{inlines(token.tokens)}</Link>;
    case "image":
      return <Link href={token.href}>{token.text || token.href}</Link>;
    case "text":
      return token.tokens ? inlines(token.tokens) : decodeEntities(token.text);
    case "escape":
      return decodeEntities(token.text);
    default:
      return token.raw;
  }
}

/** No form field: nobody can change what a model wrote. */
function Tick({ isDone }: { isDone: boolean }) {
  const text = useText();
  return (
    <span className="tick" role="img" aria-label={isDone ? text.done : text.notDone}>
      {isDone ? "☑" : "☐"}
    </span>
  );
}

function Link({ href, children }: { href: string; children: ReactNode }) {
  const safe = safeHref(href);
  if (safe === null) return children;
  return (
    <a href={safe} target="_blank" rel="noopener noreferrer">
      {children}
    </a>
  );
}
