import { Problem } from "../hub/problem";

/** Whether this browser can use passkeys here; none can over plain HTTP from another machine. */
export function canUsePasskeys(): boolean {
  return (
    typeof PublicKeyCredential === "function" &&
    "parseRequestOptionsFromJSON" in PublicKeyCredential &&
    "parseCreationOptionsFromJSON" in PublicKeyCredential
  );
}

/** Have the person prove who they are. options: the hub's. Raises Problem. */
export async function proofByPasskey(options: unknown): Promise<unknown> {
  return answerTo(() => {
    const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(options as PublicKeyCredentialRequestOptionsJSON);
    return navigator.credentials.get({ publicKey });
  });
}

/** Have the person make a passkey. options: the hub's. Raises Problem. */
export async function freshPasskey(options: unknown): Promise<unknown> {
  return answerTo(() => {
    const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(
      options as PublicKeyCredentialCreationOptionsJSON,
    );
    return navigator.credentials.create({ publicKey });
  });
}

/** By the names of WebAuthn's errors (Web Authentication Level 3, sections 5.1.3 and 5.1.4). */
const CODES: Record<string, string> = {
  NotAllowedError: "passkey_cancelled",
  AbortError: "passkey_cancelled",
  InvalidStateError: "passkey_known",
  SecurityError: "passkey_elsewhere",
};

async function answerTo(ask: () => Promise<Credential | null>): Promise<unknown> {
  try {
    return ((await ask()) as PublicKeyCredential).toJSON();
  } catch (error) {
    throw passkeyProblem(error);
  }
}

/** It is the browser that says no here, so there is no status; 400 as it does not pass by itself. */
export function passkeyProblem(error: unknown): Problem {
  const code = error instanceof DOMException ? CODES[error.name] : undefined;
  return new Problem(400, code ?? "passkey_failed", code === undefined ? String(error) : "");
}
