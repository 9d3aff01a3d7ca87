/** What went wrong, in a form that can be stored and shown. */
export interface Failure {
  /** The HTTP status; 0 when the hub could not be reached. */
  status: number;
  /** The hub's stable code, or `unreachable`. */
  code: string;
  /** The hub's own sentence, in English; may be empty. */
  detail: string;
  retryAfterS: number | null;
}

/** An answer of the hub that says no, or no answer at all. */
export class Problem extends Error implements Failure {
  override readonly name = "Problem";

  constructor(
    readonly status: number,
    readonly code: string,
    readonly detail: string,
    readonly retryAfterS: number | null = null,
  ) {
    super(detail || code);
  }

  /** Whether the same request may well succeed later. */
  get isPassing(): boolean {
    return this.status === 0 || this.status === 408 || this.status === 429 || this.status >= 500;
  }
}

export function failureOf({ status, code, detail, retryAfterS }: Failure): Failure {
  return { status, code, detail, retryAfterS };
}

export const unreachable = () => new Problem(0, "unreachable", "");

type Fields = Record<string, unknown>;

export function fieldsOf(value: unknown): Fields {
  return typeof value === "object" && value !== null ? (value as Fields) : {};
}

export function textOr<T>(value: unknown, otherwise: T): string | T {
  return typeof value === "string" ? value : otherwise;
}

export function textsIn(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((one) => typeof one === "string") : [];
}

export function numberOr<T>(value: unknown, otherwise: T): number | T {
  return typeof value === "number" && Number.isFinite(value) ? value : otherwise;
}

/** Under /v1 some codes have the names that OpenAI's clients look for. */
const OPENAI_NAMES: Record<string, string> = {
  model_not_found: "unknown_model",
  invalid_api_key: "unauthorized",
  rate_limit_exceeded: "rate_limited",
};

/** From problem details (RFC 9457) or OpenAI's `{"error": {...}}`. `status` counts where the body has none. */
export function problemIn(body: unknown, status: number, retryAfter: string | null = null): Problem {
  const fields = fieldsOf(body);
  const inner = fieldsOf(fields["error"] ?? fields);
  const message = textOr(inner["detail"], null) ?? textOr(inner["message"], null) ?? textOr(fields["error"], "");
  const code = textOr(inner["code"], null) ?? (status === 401 ? "unauthorized" : "unknown");
  const seconds = retryAfter === null ? NaN : Number(retryAfter); // the other form, a date, is not worth a clock
  return new Problem(
    numberOr(inner["status"], status),
    OPENAI_NAMES[code] ?? code,
    message || textOr(inner["title"], ""),
    Number.isFinite(seconds) ? seconds : numberOr(inner["retry_after_s"], null),
  );
}
