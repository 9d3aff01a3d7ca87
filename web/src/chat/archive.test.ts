import { describe, expect, test } from "vitest";
import { memoryStorage, shelfIn } from "../hub/shelf";
import { Archive } from "./archive";
import { freshAnswer, type Conversation } from "./conversation";

function conversation(id: string, changedAt: number, text = "hello"): Conversation {
  const answer = { ...freshAnswer("a"), text: "hi", status: "done" as const };
  const images = ["data:image/png;base64,AAAA"];
  return { id, changedAt, turns: [{ id: "t", text, images, imageCount: 1, askedAt: 0, answer }] };
}

describe("the archive", () => {
  test("gives back conversations, newest first, without their pictures", () => {
    const shelf = shelfIn(memoryStorage());
    const archive = new Archive(shelf, "user:a");
    archive.save(conversation("old", 1), []);
    archive.save(conversation("new", 2), []);
    const { conversations } = new Archive(shelf, "user:a").load("fresh", 3);
    expect(conversations.map(({ id }) => id)).toEqual(["new", "old"]);
    expect(conversations[0]?.turns[0]).toMatchObject({ images: [], imageCount: 1, text: "hello" });
    expect(new Archive(shelf, "user:b").load("fresh", 3).conversations).toEqual([]);
  });

  test("says of an answer that was being written that it was cut", () => {
    const shelf = shelfIn(memoryStorage());
    const open = conversation("c", 1);
    const turns = open.turns.map((turn) => ({ ...turn, answer: { ...turn.answer, status: "streaming" as const } }));
    new Archive(shelf, "user:a").save({ ...open, turns }, []);
    const [loaded] = new Archive(shelf, "user:a").load("fresh", 2).conversations;
    expect(loaded?.turns[0]?.answer.status).toBe("cut");
  });

  test("takes what an older page kept, without the newer fields", () => {
    const shelf = shelfIn(memoryStorage());
    const { decision: _, thumb: __, ...older } = freshAnswer("a");
    const turns = [{ id: "t", text: "q", images: [], imageCount: 0, askedAt: 0, answer: { ...older, text: "hi" } }];
    shelf.put("chat.user:a/c", { id: "c", changedAt: 1, turns });
    const [loaded] = new Archive(shelf, "user:a").load("fresh", 2).conversations;
    expect(loaded?.turns[0]?.answer).toMatchObject({ text: "hi", decision: "", thumb: null });
  });

  test("keeps thirty, and forgets the oldest", () => {
    const shelf = shelfIn(memoryStorage());
    const archive = new Archive(shelf, "user:a");
    let all: Conversation[] = [];
    for (let index = 0; index < 35; index++) {
      const fresh = conversation(`c${index}`, index);
      all = [fresh, ...all];
      archive.save(fresh, all);
    }
    const kept = archive.load("fresh", 99).conversations.map(({ id }) => id);
    expect([kept.length, kept[0], kept.at(-1)]).toEqual([30, "c34", "c5"]);
  });

  test("makes room by forgetting the oldest", () => {
    const shelf = shelfIn(memoryStorage(3_000));
    const archive = new Archive(shelf, "user:a");
    const old = [conversation("old1", 1, "x".repeat(800)), conversation("old2", 2, "x".repeat(800))];
    for (const one of old) archive.save(one, old);
    archive.save(conversation("new", 3, "y".repeat(1_000)), [...old].reverse());
    expect(archive.load("fresh", 9).conversations.map(({ id }) => id)).toEqual(["new", "old2"]);
  });

  test("passes over what it did not write", () => {
    const shelf = shelfIn(memoryStorage());
    for (const [index, junk] of [null, 1, { id: "x" }, { id: "x", changedAt: 1, turns: [{}] }].entries())
      shelf.put(`chat.user:a/${index}`, junk);
    expect(new Archive(shelf, "user:a").load("fresh", 1).conversations).toEqual([]);
  });
});
