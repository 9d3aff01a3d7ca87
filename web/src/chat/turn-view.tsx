import { memo } from "react";
import type { Readiness } from "../hub/pool";
import { Markdown } from "../markdown/markdown";
import { CopyButton } from "../shell/copy-button";
import { Icon } from "../shell/icons";
import { failureDetail, failureText } from "../text/failure";
import { useLanguage, useText } from "../text/language";
import { seconds } from "../text/moment";
import type { Answer, Thumb, Turn } from "./conversation";
import { Thumbs } from "./thumbs";

interface Props {
  turn: Turn;
  readiness: Readiness;
  /** Null where asking again is not offered. */
  onRetry: (() => void) | null;
  onJudge: (answer: Answer, thumb: Thumb) => void;
}

/** A question and what came of it. */
export function TurnView({ turn, readiness, onRetry, onJudge }: Props) {
  return (
    <>
      <Question turn={turn} />
      <AnswerView answer={turn.answer} {...{ readiness, onRetry, onJudge }} />
    </>
  );
}

const Question = memo(function Question({ turn }: { turn: Turn }) {
  const text = useText();
  const lost = turn.imageCount - turn.images.length;
  return (
    <article className="question" aria-label={text.you}>
      {turn.images.map((url, index) => (
        <img key={index} src={url} alt={text.picture(index + 1)} />
      ))}
      {lost > 0 && <p className="hint">{text.picturesNotKept(lost)}</p>}
      {turn.text && <p className="plain">{turn.text}</p>}
    </article>
  );
});

function AnswerView({ answer, readiness, onRetry, onJudge }: { answer: Answer } & Omit<Props, "turn">) {
  const text = useText();
  const isOpen = answer.status === "waiting" || answer.status === "streaming";
  return (
    <article className="answer" aria-label={answer.model || text.model} aria-busy={isOpen}>
      {answer.reasoning && <Reasoning answer={answer} />}
      {answer.text && <Markdown text={answer.text} />}
      {answer.status === "waiting" && (
        <p className="waiting">
          <Dots />
          {readiness === "starting" ? text.waitingForStart : text.waiting}
        </p>
      )}
      {answer.status === "streaming" && <Dots />}
      {!isOpen && <Ending answer={answer} readiness={readiness} />}
      {!isOpen && (
        <footer className="answer-foot">
          <Origin answer={answer} />
          {answer.text && <CopyButton text={answer.text} />}
          {answer.status === "done" && answer.decision && (
            <Thumbs given={answer.thumb} onGive={(thumb) => onJudge(answer, thumb)} />
          )}
          {onRetry && (
            <button type="button" className={answer.status === "done" ? "quiet" : "outlined"} onClick={onRetry}>
              <Icon name="retry" />
              {text.retry}
            </button>
          )}
        </footer>
      )}
    </article>
  );
}

function Reasoning({ answer }: { answer: Answer }) {
  const text = useText();
  const isThinking = answer.status === "streaming" && answer.text === "";
  return (
    <details className="reasoning">
      <summary>{isThinking ? text.thinking : text.reasoning}</summary>
      <p className="plain">{answer.reasoning}</p>
    </details>
  );
}

/** How the answer ended, where that is worth a word. */
function Ending({ answer, readiness }: { answer: Answer; readiness: Readiness }) {
  const text = useText();
  const { status, failure, finish } = answer;
  if (status === "stopped") return <p className="notice">{text.stopped}</p>;
  if (status === "cut") return <p className="notice bad">{text.cut}</p>;
  if (status === "failed" && failure?.code === "unknown_model" && readiness === "empty")
    return <p className="notice bad">{text.instancesNone}</p>;
  if (status === "failed" && failure) {
    const isStarting = readiness === "starting" && failure.code === "no_instance_free";
    return (
      <div className={isStarting ? "notice" : "notice bad"}>
        <p>{isStarting ? text.stillStarting : failureText(failure, text)}</p>
        {!isStarting && <p className="hint">{failureDetail(failure, text)}</p>}
        {failure.retryAfterS !== null && <p className="hint">{text.retryAfter(Math.ceil(failure.retryAfterS))}</p>}
      </div>
    );
  }
  if (finish === "length") return <p className="notice">{text.tooLong}</p>;
  if (finish === "content_filter") return <p className="notice">{text.filtered}</p>;
  if (answer.text === "") return <p className="notice">{answer.reasoning ? text.onlyReasoning : text.emptyAnswer}</p>;
  return null;
}

function Origin({ answer }: { answer: Answer }) {
  const { text, tag } = useLanguage();
  const { model, instance, firstTokenMs } = answer;
  const facts = [model, instance === model ? "" : instance, firstTokenMs === null ? "" : text.firstToken(seconds(firstTokenMs, tag))];
  return <span className="origin">{facts.filter((fact) => fact !== "").join(" · ")}</span>;
}

export function Dots() {
  return (
    <span className="dots" aria-hidden="true">
      <i />
      <i />
      <i />
    </span>
  );
}
