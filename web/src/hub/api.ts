import { fieldsOf, problemIn, textOr, unreachable } from "./problem";

export interface Me {
  address: string;
  principal: string;
}

/** The hub's HTTP interface. Every call raises Problem; `onUnauthorized` hears of each 401 first. */
export class HubApi {
  constructor(
    private readonly base: string,
    private readonly key: string,
    private readonly onUnauthorized: () => void = () => undefined,
  ) {}

  /** A reply with a good status. Aborting raises the browser's AbortError. */
  async open(path: string, options: { body?: unknown; signal?: AbortSignal; method?: "DELETE" } = {}): Promise<Response> {
    const { body, signal } = options;
    const headers = new Headers({ authorization: `Bearer ${this.key}` });
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
    if (response.status === 401) this.onUnauthorized();
    const problem: unknown = await response.json().catch(() => null); // a proxy in between may answer in HTML
    throw problemIn(problem, response.status, response.headers.get("retry-after"));
  }

  async json(path: string, timeoutMs = 10_000): Promise<unknown> {
    try {
      const response = await this.open(path, { signal: AbortSignal.timeout(timeoutMs) });
      return (await response.json()) as unknown;
    } catch (error) {
      if (error instanceof DOMException || error instanceof SyntaxError) throw unreachable();
      throw error;
    }
  }

  async me(): Promise<Me> {
    const fields = fieldsOf(await this.json("api/me"));
    return { address: textOr(fields["address"], ""), principal: textOr(fields["principal"], "") };
  }

  /** The names of the models, without `auto`. */
  async models(): Promise<string[]> {
    const list = fieldsOf(await this.json("v1/models"))["data"];
    const names = (Array.isArray(list) ? list : []).map((model) => textOr(fieldsOf(model)["id"], ""));
    return [...new Set(names)].filter((name) => name !== "" && name !== "auto");
  }
}
