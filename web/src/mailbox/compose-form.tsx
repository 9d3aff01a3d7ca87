import { useEffect, useRef, useState, type KeyboardEvent, type SubmitEvent } from "react";
import { isComposing } from "../chat/composer";
import { addressFault, type AddressFault } from "../hub/address";
import { textOf } from "../hub/frames";
import { Icon } from "../shell/icons";
import { useText } from "../text/language";
import type { Mail } from "./mail";

interface Props {
  addresses: readonly string[];
  /** The mail that is being answered. */
  answered: Mail | null;
  onAnswered: (mail: Mail | null) => void;
  /** False when the browser could not keep the message for later. */
  onSend: (to: string, text: string) => boolean;
}

export function ComposeForm({ addresses, answered, onAnswered, onSend }: Props) {
  const text = useText();
  const [to, setTo] = useState("model:auto");
  const [words, setWords] = useState("");
  const [fault, setFault] = useState<AddressFault | null>(null);
  const [isUnkept, setUnkept] = useState(false);
  const field = useRef<HTMLTextAreaElement>(null);

  useEffect(() => {
    if (!answered) return;
    const { message, isMine, isReceived } = answered;
    setTo(isMine && !isReceived ? message.to : message.from);
    setFault(null);
    field.current?.focus();
  }, [answered]);

  const send = () => {
    const address = to.trim();
    const wrong = addressFault(address);
    setFault(wrong);
    if (wrong || words.trim() === "") return;
    setUnkept(!onSend(address, words.trim()));
    setWords("");
    onAnswered(null);
    field.current?.focus();
  };
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    send();
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key !== "Enter" || event.shiftKey || isComposing(event)) return;
    event.preventDefault();
    send();
  };

  return (
    <form className="card compose" onSubmit={submit} aria-label={text.newMail}>
      <div className="field">
        <label htmlFor="mail-to">{text.to}</label>
        <input
          id="mail-to"
          list="mail-addresses"
          value={to}
          onChange={(event) => {
            setTo(event.target.value);
            setFault(null);
          }}
          aria-invalid={fault !== null}
          aria-describedby="mail-fault"
          autoComplete="off"
          autoCapitalize="none"
          spellCheck={false}
        />
        <datalist id="mail-addresses">
          {addresses.map((address) => (
            <option key={address} value={address} />
          ))}
        </datalist>
      </div>
      <p id="mail-fault" className={fault ? "hint bad" : "hint"} role={fault ? "alert" : undefined}>
        {fault ? text.addressFaults[fault] : text.addressHint}
      </p>
      {answered && (
        <div className="quote row">
          <p className="hint">{text.replyTo(textOf(answered.message.content).slice(0, 80))}</p>
          <button type="button" className="quiet square" aria-label={text.noReply} onClick={() => onAnswered(null)}>
            <Icon name="close" />
          </button>
        </div>
      )}
      <label className="visually-hidden" htmlFor="mail-text">
        {text.message}
      </label>
      <textarea
        id="mail-text"
        ref={field}
        rows={3}
        value={words}
        placeholder={text.messageHint}
        onChange={(event) => setWords(event.target.value)}
        onKeyDown={onKeyDown}
      />
      {isUnkept && (
        <p className="hint bad" role="alert">
          {text.notKeptYet}
        </p>
      )}
      <button type="submit" className="primary" disabled={words.trim() === ""}>
        <Icon name="send" />
        {text.send}
      </button>
    </form>
  );
}
