import { Component, type ReactNode } from "react";
import { useText } from "../text/language";

interface Props {
  children: ReactNode;
  onForget: () => Promise<void>;
}

/** Shown when a part of the page breaks, instead of an empty window. */
export class Boundary extends Component<Props, { isBroken: boolean }> {
  override state = { isBroken: false };

  static getDerivedStateFromError() {
    return { isBroken: true };
  }

  override render() {
    return this.state.isBroken ? <Broken onForget={this.props.onForget} /> : this.props.children;
  }
}

function Broken({ onForget }: Pick<Props, "onForget">) {
  const text = useText();
  const forget = () => {
    if (window.confirm(text.forgetQuestion)) void onForget().finally(() => window.location.reload());
  };
  return (
    <main className="welcome">
      <div className="card welcome-card" role="alert">
        <h1>{text.broken}</h1>
        <p>{text.brokenHint}</p>
        <button type="button" className="primary" onClick={() => window.location.reload()}>
          {text.reload}
        </button>
        <button type="button" className="danger" onClick={forget}>
          {text.forget}
        </button>
      </div>
    </main>
  );
}
