import { afterEach, describe, expect, test, vi } from "vitest";
import { HubApi } from "../hub/api";
import { knock, logIn, waysIn } from "./login";

interface Answer {
  status: number;
  body: unknown;
}

/** The network: what each path answers, and the requests that came. */
function network(answers: Record<string, Answer>) {
  const requests: { path: string; method: string; authorization: string | null }[] = [];
  vi.stubGlobal("fetch", async (url: URL, request: RequestInit) => {
    const { pathname: path } = url;
    const authorization = new Headers(request.headers).get("authorization");
    requests.push({ path, method: request.method ?? "", authorization });
    const { status, body } = answers[path] ?? { status: 404, body: { code: "unknown_path" } };
    return new Response(JSON.stringify(body), { status });
  });
  return requests;
}

afterEach(() => vi.unstubAllGlobals());

const BASE = "http://hub.test/";
const WAYS = { status: 200, body: { password: true, passkey: true, oidc: false, has_people: true } };
const refused = (code: string): Answer => ({ status: 401, body: { status: 401, code, detail: "" } });

describe("knock", () => {
  test("finds the person of the session, without a key in any header", async () => {
    const session = { handle: "h", method: "passkey", roles: ["member"], created_at: 1, ends_at: 2, is_fresh: true };
    const me = { address: "user:alice", principal: "alice", scopes: ["model:use:*"], session };
    const requests = network({ "/api/me": { status: 200, body: me } });
    const api = new HubApi(BASE, null);
    expect(await knock(api, api)).toEqual({
      me: { ...me, session: { handle: "h", method: "passkey", roles: ["member"] } },
    });
    expect(requests).toEqual([{ path: "/api/me", method: "GET", authorization: null }]);
  });

  test("finds the ways to log in for nobody, and asks for them without the key that was refused", async () => {
    const requests = network({ "/api/me": refused("unauthorized"), "/api/login": WAYS });
    const found = await knock(new HubApi(BASE, "ag-old"), new HubApi(BASE, null));
    expect(found).toEqual({ ways: { hasPasskey: true, hasOidc: false, hasPeople: true } });
    expect(requests.map(({ authorization }) => authorization)).toEqual(["Bearer ag-old", null]);
  });

  test("does not take a hub that is away for one that knows nobody", async () => {
    network({ "/api/me": { status: 503, body: { status: 503, code: "draining" } } });
    const api = new HubApi(BASE, null);
    await expect(knock(api, api)).rejects.toMatchObject({ code: "draining" });
  });
});

describe("a 401", () => {
  test("of a login that is refused says nothing about the session", async () => {
    network({ "/api/login/password": refused("login_refused") });
    const heard = vi.fn();
    await expect(logIn(new HubApi(BASE, null, heard), "alice", "x")).rejects.toMatchObject({ code: "login_refused" });
    expect(heard).not.toHaveBeenCalled();
  });

  test("of a session that has ended is heard of", async () => {
    network({ "/api/me/sessions": refused("session_ended") });
    const heard = vi.fn();
    await expect(new HubApi(BASE, null, heard).json("api/me/sessions")).rejects.toMatchObject({ status: 401 });
    expect(heard).toHaveBeenCalledOnce();
  });
});

test("ways that the hub does not name are none", () => {
  expect(waysIn({ password: true })).toEqual({ hasPasskey: false, hasOidc: false, hasPeople: false });
});
