import { useStore } from "../hub/store";
import { failureDetail, failureText } from "../text/failure";
import { useLanguage } from "../text/language";
import type { PushSwitch } from "./push-switch";

/** Switches notifications on and off, or says why this browser has none. */
export function PushSetting({ push }: { push: PushSwitch }) {
  const { text, language } = useLanguage();
  const { state, isBusy, failure, trouble, why } = useStore(push.store);
  const isOn = state === "on";
  return (
    <fieldset className="setting" aria-busy={isBusy}>
      <legend>{text.push}</legend>
      {(state === "on" || state === "off") && (
        <button
          type="button"
          className="outlined"
          disabled={isBusy}
          onClick={() => void (isOn ? push.turnOff() : push.turnOn())}
        >
          {isOn ? text.pushTurnOff : text.pushTurnOn}
        </button>
      )}
      <p className="hint" role="status">
        {isBusy ? text.pushBusy : text.pushStates[state]}
      </p>
      {state === "not_set_up" && !isBusy && (
        <p className="hint">
          {language === "zh" ? why.zh : why.en}{" "}
          {why.fix && <code>{why.fix}</code>}
        </p>
      )}
      {trouble && (
        <p className="hint bad" role="alert">
          {text.pushTroubles[trouble]}
        </p>
      )}
      {failure && (
        <div role="alert">
          <p className="hint bad">{failureText(failure, text)}</p>
          <p className="hint">{failureDetail(failure, text)}</p>
        </div>
      )}
    </fieldset>
  );
}
