import { describe, expect, test } from "vitest";
import { en } from "../text/en";
import { zh } from "../text/zh";
import {
  ACKNOWLEDGE,
  ASK,
  bodyOf,
  buttonsOf,
  fragmentOf,
  mailInFragment,
  readClick,
  readNotice,
  readShown,
  readTaken,
  shownWith,
  tagOf,
  takenWords,
  type Notice,
} from "./notice";

const notice = (more: Partial<Notice> = {}): Notice => {
  const read = readNotice({ id: "m-1", from: "device:press", text: "down", time: 7, ...more });
  if (!read) throw new Error("is a notice");
  return read;
};

describe("a notice", () => {
  test("has what the hub leaves out", () => {
    expect(notice()).toEqual({
      ...{ id: "m-1", from: "device:press", text: "down", time: 7 },
      ...{ kind: "chat", priority: 5, thread: null, piece: 0, pieces: 1, isDigest: false },
    });
  });

  test("that is none is told from one", () => {
    for (const value of [null, undefined, "x", 7, {}, { id: "m-1", from: "a" }, { id: 1, from: "a", text: "" }])
      expect(readNotice(value)).toBeNull();
  });

  test("never asks for more pieces than there can be", () => {
    expect(notice({ pieces: 1e9, piece: 1e9 })).toMatchObject({ pieces: 100, piece: 99 });
    expect(notice({ pieces: -1, piece: -1 })).toMatchObject({ pieces: 1, piece: 0 });
  });

  test("of a thread takes the place of the thread's former one, and no other's", () => {
    expect(tagOf(notice({ thread: "t" }))).toBe(tagOf(notice({ id: "m-2", thread: "t" })));
    expect(tagOf(notice())).not.toBe(tagOf(notice({ id: "m-2" })));
    expect(tagOf(notice({ id: "x" }))).not.toBe(tagOf(notice({ thread: "x" })));
  });
});

describe("what is shown", () => {
  test("is put together from pieces in any order", () => {
    const third = shownWith(notice({ text: "c", piece: 2, pieces: 3 }), null);
    expect(bodyOf(third)).toBe("……c");
    const first = shownWith(notice({ text: "a", piece: 0, pieces: 3 }), third);
    expect(bodyOf(shownWith(notice({ text: "b", piece: 1, pieces: 3 }), first))).toBe("abc");
  });

  test("is the same when a push comes twice", () => {
    const once = shownWith(notice(), null);
    expect(shownWith(notice(), once)).toEqual(once);
  });

  test("has nothing of an earlier message of the thread", () => {
    const before = shownWith(notice({ thread: "t", text: "old", pieces: 2 }), null);
    expect(bodyOf(shownWith(notice({ id: "m-2", thread: "t", text: "new", pieces: 2 }), before))).toBe("new…");
  });

  test("survives the way through a notification's data", () => {
    const shown = shownWith(notice({ pieces: 2 }), null);
    expect(readShown(JSON.parse(JSON.stringify(shown)))).toEqual(shown);
    for (const value of [null, {}, { id: "m", from: "a" }, { id: 1, from: "a", texts: [] }])
      expect(readShown(value)).toBeNull();
  });
});

describe("the button", () => {
  test("says what the page's own button says", () => {
    for (const [language, { acknowledge }] of [["en", en], ["zh", zh]] as const)
      expect(buttonsOf(notice(), language)).toEqual([{ action: ACKNOWLEDGE, title: acknowledge }]);
  });

  test("is missing on a digest", () => {
    const digest = readNotice({ id: "m-1.digest", from: "device:press", text: "two", is_digest: true });
    expect(digest && buttonsOf(digest, "en")).toEqual([]);
  });
});

describe("a click", () => {
  const shown = shownWith(notice(), null);

  test("is an acknowledgement by the button alone", () => {
    expect(readClick({ type: "open", shown, isAcknowledged: true })).toEqual({ shown, isAcknowledged: true });
    for (const more of [{}, { isAcknowledged: false }, { isAcknowledged: "true" }, { isAcknowledged: 1 }])
      expect(readClick({ type: "open", shown, ...more })).toEqual({ shown, isAcknowledged: false });
  });

  test("that cannot be read is none", () => {
    for (const value of [null, "open", { type: "open" }, { type: "shut", shown, isAcknowledged: true }])
      expect(readClick(value)).toBeNull();
  });
});

describe("that a click is taken", () => {
  test("is told by the message's id", () => {
    const shown = shownWith(notice({ id: "m-7" }), null);
    expect(readTaken(takenWords({ shown, isAcknowledged: true }))).toBe("m-7");
  });

  test("is not told by anything else", () => {
    for (const value of [null, "taken", ASK, { type: "taken" }, { type: "taken", id: 7 }, { type: "open", id: "m-7" }])
      expect(readTaken(value)).toBeNull();
  });
});

describe("the fragment", () => {
  test("brings a message's id through", () => {
    for (const id of ["order-17", "a/b?c#d&e=f%", "%"]) expect(mailInFragment(fragmentOf(id))).toBe(id);
  });

  test("of another kind has none", () => {
    for (const fragment of ["", "#", "#key=ag-1", "#mail=", "#mail=%"]) expect(mailInFragment(fragment)).toBeNull();
  });
});
