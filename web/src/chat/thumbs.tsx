import { Icon } from "../shell/icons";
import { useText } from "../text/language";
import type { Thumb } from "./conversation";

const THUMBS: readonly Thumb[] = ["up", "down"];

/** Was the answer good? The hub learns from it which model to choose. */
export function Thumbs({ given, onGive }: { given: Thumb | null; onGive: (thumb: Thumb) => void }) {
  const text = useText();
  return (
    <span className="thumbs" role="group" aria-label={text.judge}>
      {THUMBS.map((thumb) => (
        <button
          key={thumb}
          type="button"
          className="quiet"
          aria-label={text.thumbs[thumb]}
          title={text.thumbs[thumb]}
          aria-pressed={given === thumb}
          onClick={() => given !== thumb && onGive(thumb)}
        >
          <Icon name={thumb} />
        </button>
      ))}
    </span>
  );
}
