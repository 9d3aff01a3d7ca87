import { fieldsOf, problemIn, textOr, textsIn, unreachable } from "./problem";

export interface Me {
  address: string;
  principal: string;
  scopes: string[];
  /** Null for a key. */
  session: OwnSession | null;
}

export interface OwnSession {
  handle: string;
  /** `password`, `passkey`, `oidc` or `invitation`. */
  method: string;
  roles: string[];
}

interface Options {
  body?: unknown;
  signal?: AbortSignal;
  /** GET without a body, POST with one. */
  method?: "DELETE" | "PATCH";
}

/** The hub's HTTP interface. Every call raises Problem; `onUnauthorized` hears of each 401 first, but for a login that
 * is refused: that says nothing of who asks. */
export class HubApi {
  /** key: null where the browser's session, a cookie that the page cannot see, stands for it. */
  constructor(
    private readonly base: string,
    private readonly key: string | null,
    private readonly onUnauthorized: () => void = () => undefined,
  ) {}

  /** A reply with a good status. Aborting raises the browser's AbortError. */
  async open(path: string, options: Options = {}): Promise<Response> {
    const { body, signal } = options;
    const headers = new Headers(this.key === null ? {} : { authorization: `Bearer ${this.key}` });
    if (body !== undefined) headers.set("content-type", "application/json");
    const method = options.method ?? (body === undefined ? "GET" : "POST");
    const request: RequestInit = { headers, cache: "no-store", method };
    if (body !== undefined) request.body = JSON.stringify(body);
    if (signal) request.signal = signal;
    let response: Response;
    try {
      response = await fetch(new URL(path, this.base), request);
    } catch (error) {
      if (signal?.aborted) throw error;
      throw unreachable();
    }
    if (response.ok) return response;
    const answer: unknown = await response.json().catch(() => null); // a proxy in between may answer in HTML
    const problem = problemIn(answer, response.status, response.headers.get("retry-after"));
    if (response.status === 401 && problem.code !== "login_refused") this.onUnauthorized();
    throw problem;
  }

  /** What the hub answers; null where it has no more to say than that it is done. */
  async json(path: string, options: Omit<Options, "signal"> = {}, timeoutMs = 10_000): Promise<unknown> {
    try {
      const response = await this.open(path, { ...options, signal: AbortSignal.timeout(timeoutMs) });
      return response.status === 204 ? null : ((await response.json()) as unknown);
    } catch (error) {
      if (error instanceof DOMException || error instanceof SyntaxError) throw unreachable();
      throw error;
    }
  }

  async me(): Promise<Me> {
    const fields = fieldsOf(await this.json("api/me"));
    const session = fieldsOf(fields["session"]);
    const { handle, method, roles } = session;
    return {
      address: textOr(fields["address"], ""),
      principal: textOr(fields["principal"], ""),
      scopes: textsIn(fields["scopes"]),
      session:
        typeof handle === "string" ? { handle, method: textOr(method, ""), roles: textsIn(roles) } : null,
    };
  }

  /** The names of the models, without `auto`. */
  async models(): Promise<string[]> {
    const list = fieldsOf(await this.json("v1/models"))["data"];
    const names = (Array.isArray(list) ? list : []).map((model) => textOr(fieldsOf(model)["id"], ""));
    return [...new Set(names)].filter((name) => name !== "" && name !== "auto");
  }
}
