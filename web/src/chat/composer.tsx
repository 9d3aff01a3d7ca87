import { useLayoutEffect, useRef, useState, type ClipboardEvent, type KeyboardEvent, type RefObject } from "react";
import { Icon } from "../shell/icons";
import { useText } from "../text/language";
import { PICTURES_A_QUESTION, pictureFrom } from "./picture";

interface Props {
  ref: RefObject<HTMLTextAreaElement | null>;
  model: string;
  models: readonly string[];
  isRunning: boolean;
  onModel: (model: string) => void;
  onAsk: (text: string, images: string[]) => void;
  onStop: () => void;
}

/** Whether this Enter ends a word of an input method (Chinese, Japanese, Korean) rather than the question. */
export function isComposing(event: { nativeEvent: { isComposing: boolean }; keyCode: number }): boolean {
  // 229: Safari ends the composition just before the key event, which then looks like any other Enter.
  return event.nativeEvent.isComposing || event.keyCode === 229;
}

export function Composer({ ref, model, models, isRunning, onModel, onAsk, onStop }: Props) {
  const text = useText();
  const [question, setQuestion] = useState("");
  const [images, setImages] = useState<string[]>([]);
  const [notice, setNotice] = useState("");
  const isEmpty = question.trim() === "" && images.length === 0;
  useGrowing(ref, question);

  const ask = () => {
    if (isEmpty || isRunning) return;
    onAsk(question.trim(), images);
    setQuestion("");
    setImages([]);
    setNotice("");
    ref.current?.focus();
  };
  const attach = async (files: readonly File[]) => {
    const pictures = files.filter((file) => file.type.startsWith("image/"));
    const read = await Promise.allSettled(pictures.map(pictureFrom));
    const good = read.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []));
    setNotice(good.length < read.length ? text.pictureUnreadable : "");
    setImages((now) => [...now, ...good].slice(0, PICTURES_A_QUESTION));
    ref.current?.focus();
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key !== "Enter" || event.shiftKey || isComposing(event)) return;
    event.preventDefault();
    ask();
  };
  const onPaste = (event: ClipboardEvent) => {
    const files = [...event.clipboardData.files];
    if (files.some((file) => file.type.startsWith("image/"))) {
      event.preventDefault();
      void attach(files);
    }
  };

  return (
    <form
      className="composer"
      onSubmit={(event) => {
        event.preventDefault();
        ask();
      }}
    >
      <div className="composer-box">
        <Pictures images={images} onRemove={(gone) => setImages(images.filter((_, index) => index !== gone))} />
        <textarea
          ref={ref}
          rows={1}
          value={question}
          aria-label={text.question}
          placeholder={text.questionHint}
          onChange={(event) => setQuestion(event.target.value)}
          {...{ onKeyDown, onPaste }}
        />
        <div className="composer-bar">
          <PictureButton onFiles={(files) => void attach(files)} isFull={images.length >= PICTURES_A_QUESTION} />
          <label className="model">
            <span className="visually-hidden">{text.model}</span>
            <select value={model} onChange={(event) => onModel(event.target.value)} title={text.model}>
              <option value="auto">{text.modelAuto}</option>
              {models.map((name) => (
                <option key={name}>{name}</option>
              ))}
            </select>
          </label>
          <span className="composer-notice hint" role="status">
            {notice}
          </span>
          {isRunning ? (
            <button
              type="button"
              className="primary"
              onClick={() => {
                onStop();
                ref.current?.focus();
              }}
            >
              <Icon name="stop" />
              {text.stop}
            </button>
          ) : (
            <button type="submit" className="primary" disabled={isEmpty}>
              <Icon name="send" />
              {text.send}
            </button>
          )}
        </div>
      </div>
    </form>
  );
}

function Pictures({ images, onRemove }: { images: readonly string[]; onRemove: (index: number) => void }) {
  const text = useText();
  if (images.length === 0) return null;
  return (
    <ul className="pictures">
      {images.map((url, index) => (
        <li key={index}>
          <img src={url} alt={text.picture(index + 1)} />
          <button type="button" aria-label={text.removePicture(index + 1)} onClick={() => onRemove(index)}>
            <Icon name="close" />
          </button>
        </li>
      ))}
    </ul>
  );
}

function PictureButton({ onFiles, isFull }: { onFiles: (files: File[]) => void; isFull: boolean }) {
  const text = useText();
  const input = useRef<HTMLInputElement>(null);
  return (
    <>
      <button
        type="button"
        className="quiet square"
        disabled={isFull}
        aria-label={text.attachPicture}
        title={text.attachPicture}
        onClick={() => input.current?.click()}
      >
        <Icon name="image" />
      </button>
      <input
        ref={input}
        type="file"
        accept="image/*"
        multiple
        hidden
        aria-label={text.attachPicture}
        onChange={(event) => {
          onFiles([...(event.target.files ?? [])]);
          event.target.value = ""; // so that the same file can be chosen again
        }}
      />
    </>
  );
}

/** The field grows with its text, up to the height that the style sheet allows. */
function useGrowing(field: RefObject<HTMLTextAreaElement | null>, value: string): void {
  useLayoutEffect(() => {
    const area = field.current;
    if (!area) return;
    area.style.height = "auto";
    if (area.scrollHeight > 0) area.style.height = `${area.scrollHeight}px`; // 0 while its tab is hidden
  }, [field, value]);
}
