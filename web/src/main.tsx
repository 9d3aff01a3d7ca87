import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { browserShelf } from "./hub/shelf";
import "./look/tokens.css";
import "./look/elements.css";
import "./look/shell.css";
import "./look/chat.css";
import "./look/mailbox.css";
import "./look/people.css";
import "./look/markdown.css";
import { keptTheme, wear } from "./look/theme";
import { App } from "./shell/app";
import { takeArrival } from "./shell/arrival";

const root = document.getElementById("root");
if (!root) throw new Error("index.html has no #root");
const shelf = browserShelf();
wear(keptTheme(shelf));
const arrival = takeArrival(shelf);
createRoot(root).render(
  <StrictMode>
    <App {...{ shelf, arrival }} />
  </StrictMode>,
);
