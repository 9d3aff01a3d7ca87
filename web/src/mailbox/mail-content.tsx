import type { Envelope, Part } from "../hub/frames";
import { fieldsOf, textOr } from "../hub/problem";
import { Markdown } from "../markdown/markdown";
import { useText } from "../text/language";
import { isFromModel, wordsOfCompletion } from "./mail";

/** Models write Markdown; people and machines write text, where a `*` or a `#` means itself. */
export function MailContent({ message }: { message: Envelope }) {
  const isMarkdown = isFromModel(message);
  if (typeof message.content === "string") return <Words text={message.content} isMarkdown={isMarkdown} />;
  return message.content.map((part, index) => <PartView key={index} part={part} isMarkdown={isMarkdown} />);
}

function Words({ text, isMarkdown }: { text: string; isMarkdown: boolean }) {
  return isMarkdown ? <Markdown text={text} /> : <p className="plain">{text}</p>;
}

function PartView({ part, isMarkdown }: { part: Part; isMarkdown: boolean }) {
  const text = useText();
  switch (part.type) {
    case "text":
      return <Words text={textOr(part["text"], "")} isMarkdown={isMarkdown} />;
    case "image_url":
      return <Picture url={textOr(fieldsOf(part["image_url"])["url"], "")} />;
    case "json": {
      const words = isMarkdown ? wordsOfCompletion(part["json"]) : null;
      if (words) return <Words text={words} isMarkdown />;
      return (
        <pre className="json" tabIndex={0}>
          {JSON.stringify(part["json"], null, 2)}
        </pre>
      );
    }
    case "input_audio":
      return <p className="attachment">{text.audio(textOr(fieldsOf(part["input_audio"])["format"], ""))}</p>;
    case "file": {
      const { filename, file_id: id } = fieldsOf(part["file"]);
      return <p className="attachment">{text.file(textOr(filename, textOr(id, "")))}</p>;
    }
    default:
      return <p className="attachment">{text.unknownPart(part.type)}</p>;
  }
}

/** Only a picture that came with the message is shown: one on another server would tell it that this page was read. */
function Picture({ url }: { url: string }) {
  const text = useText();
  if (/^data:image\/(png|jpeg|gif|webp|avif|bmp);/i.test(url)) return <img src={url} alt={text.picture(1)} />;
  return <p className="attachment plain">{text.pictureElsewhere(url.slice(0, 200))}</p>;
}
