import { describe, expect, test } from "vitest";
import { browserOf, nameOf, passkeysIn, sessionsIn } from "./account";

describe("browserOf", () => {
  test("names the browser and the system that people know it by", () => {
    const windows = "Mozilla/5.0 (Windows NT 10.0; Win64; x64)";
    const known: [string, string][] = [
      [`${windows} AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0 Safari/537.36`, "Chrome · Windows"],
      [`${windows} AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0 Safari/537.36 Edg/150.0`, "Edge · Windows"],
      ["Mozilla/5.0 (X11; Linux x86_64; rv:150.0) Gecko/20100101 Firefox/150.0", "Firefox · Linux"],
      ["Mozilla/5.0 (Linux; Android 16) AppleWebKit/537.36 Chrome/150.0 Mobile Safari/537.36", "Chrome · Android"],
      ["Mozilla/5.0 (iPhone; CPU iPhone OS 20_0 like Mac OS X) Version/20.0 Mobile Safari/604.1", "Safari · iPhone"],
      ["Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Version/20.0 Safari/605.1.15", "Safari · macOS"],
    ];
    expect(known.map(([agent]) => browserOf(agent))).toEqual(known.map(([, name]) => name));
  });

  test("shows the beginning of what it does not know", () => {
    expect(browserOf("curl/8.10.1")).toBe("curl/8.10.1");
    expect(browserOf("x".repeat(300))).toHaveLength(40);
    expect(browserOf("")).toBe("");
  });
});

test("this browser's session comes first, then the one that was seen last", () => {
  const session = (handle: string, seenAt: number, isThis = false) => ({ handle, seen_at: seenAt, is_this: isThis });
  const body = { sessions: [session("old", 1), session("new", 3), session("own", 2, true)] };
  expect(sessionsIn(body).map(({ handle }) => handle)).toEqual(["own", "new", "old"]);
});

test("passkeys are read, and a body of another kind has none", () => {
  const passkey = { handle: "p", label: "手机", is_backed_up: true, created_at: 5, used_at: null };
  expect(passkeysIn({ passkeys: [passkey], is_offered: true })).toEqual({
    passkeys: [{ handle: "p", label: "手机", isBackedUp: true, createdAt: 5, usedAt: null }],
    isOffered: true,
  });
  expect(passkeysIn(null)).toEqual({ passkeys: [], isOffered: false });
});

test("a person's name is what stands in the address", () => {
  const me = { principal: "key:admin", scopes: [], session: null };
  expect(nameOf({ ...me, address: "user:王小明" })).toBe("王小明");
  expect(nameOf({ ...me, address: "device:press-7" })).toBe("key:admin");
});
