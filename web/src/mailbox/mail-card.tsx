import { memo } from "react";
import { textOf } from "../hub/frames";
import { Icon } from "../shell/icons";
import { failureDetail, failureText } from "../text/failure";
import { useLanguage, useText } from "../text/language";
import { fullMoment, shortMoment } from "../text/moment";
import { inOrder, type Mail } from "./mail";
import { MailContent } from "./mail-content";

interface Props {
  mail: Mail;
  /** The mail that this one answers, where it is known here. */
  original: Mail | null;
  /** What this reader has answered, where this one is a question. */
  answer: string | null;
  onAnswer: (mail: Mail, choice: string) => void;
  onAcknowledge: (id: string) => void;
  onReply: (mail: Mail) => void;
  onDiscard: (id: string) => void;
}

export function cardId(id: string): string {
  return `mail-${id}`;
}

export const MailCard = memo(function MailCard(props: Props) {
  const { mail, original, answer, onAnswer, onAcknowledge, onReply, onDiscard } = props;
  const { text } = useLanguage();
  const { message } = mail;
  const label = mail.isMine ? text.mailTo(message.to) : text.mailFrom(message.from);
  return (
    <article
      id={cardId(message.id)}
      className="card mail"
      tabIndex={-1}
      aria-label={label}
      data-mine={mail.isMine && !mail.isReceived}
    >
      <MailHead mail={mail} />
      {original && <p className="quote hint">{text.replyTo(textOf(original.message.content).slice(0, 80))}</p>}
      <MailContent message={message} />
      {mail.isReceived && message.choices && <Choices mail={mail} answer={answer} onAnswer={onAnswer} />}
      {mail.failure && <Refusal mail={mail} onDiscard={onDiscard} />}
      <footer className="mail-foot">
        {mail.isMine && <Receipts mail={mail} />}
        <span className="mail-actions">
          {mail.isReceived && <Acknowledge mail={mail} onAcknowledge={onAcknowledge} />}
          <button type="button" className="quiet" onClick={() => onReply(mail)}>
            <Icon name="reply" />
            {text.reply}
          </button>
        </span>
      </footer>
    </article>
  );
});

function MailHead({ mail }: { mail: Mail }) {
  const { text, tag } = useLanguage();
  const { from, to, kind, timestamp } = mail.message;
  return (
    <header className="mail-head">
      <span className="route">
        <strong className="address">{from}</strong>
        <span aria-hidden="true">→</span>
        <span className="visually-hidden">{text.to}</span>
        <span className="address">{to}</span>
      </span>
      {kind && kind !== "chat" && (
        <span className="chip" data-level={kind === "alert" ? "bad" : undefined}>
          {text.kinds[kind]}
        </span>
      )}
      <time className="hint" dateTime={new Date(timestamp).toISOString()} title={fullMoment(timestamp, tag)}>
        {shortMoment(timestamp, Date.now(), tag)}
      </time>
    </header>
  );
}

function Acknowledge({ mail, onAcknowledge }: { mail: Mail; onAcknowledge: (id: string) => void }) {
  const text = useText();
  if (mail.wanted === "acknowledged")
    return (
      <span className="chip" data-level="good">
        {mail.confirmed === "acknowledged" ? text.states.acknowledged : text.acknowledging}
      </span>
    );
  return (
    <button type="button" className="quiet" onClick={() => onAcknowledge(mail.message.id)}>
      <Icon name="check" />
      {text.acknowledge}
    </button>
  );
}

/** The answers that a question offers, as buttons, until one is given or the time is over. */
function Choices({ mail, answer, onAnswer }: Pick<Props, "mail" | "answer" | "onAnswer">) {
  const text = useText();
  const { choices, expires_at: expiresAt } = mail.message;
  if (answer !== null) return <p className="hint">{text.youAnswered(answer)}</p>;
  if (expiresAt !== undefined && expiresAt <= Date.now()) return <p className="hint">{text.answerTimeOver}</p>;
  return (
    <div className="choices" role="group" aria-label={text.choices}>
      {choices?.map((choice) => (
        <button key={choice} type="button" className="outlined" onClick={() => onAnswer(mail, choice)}>
          {choice}
        </button>
      ))}
    </div>
  );
}

/** What became of a message that this page sent. */
function Receipts({ mail }: { mail: Mail }) {
  const { text, tag } = useLanguage();
  const receipts = inOrder(mail.receipts);
  if (mail.delivery === "queued") return <span className="hint">{text.queued}</span>;
  if (mail.delivery === "refused") return <span className="hint bad">{text.refused}</span>;
  return (
    <ol className="receipts" aria-label={text.receipts}>
      {receipts[0]?.state !== "accepted" && <li>{text.states.accepted}</li>}
      {receipts.map(({ state, by, time, detail }) => (
        <li key={`${state} ${by}`} data-level={state === "failed" ? "bad" : undefined} title={fullMoment(time, tag)}>
          {text.states[state]} <time dateTime={new Date(time).toISOString()}>{shortMoment(time, Date.now(), tag)}</time>
          {detail && <span> {detail}</span>}
        </li>
      ))}
    </ol>
  );
}

function Refusal({ mail, onDiscard }: { mail: Mail; onDiscard: (id: string) => void }) {
  const text = useText();
  if (!mail.failure) return null;
  return (
    <div className="notice bad row">
      <div>
        <p>{failureText(mail.failure, text)}</p>
        <p className="hint">{failureDetail(mail.failure, text)}</p>
      </div>
      <button type="button" className="outlined" onClick={() => onDiscard(mail.message.id)}>
        {text.discard}
      </button>
    </div>
  );
}
