import { expect, test } from "vitest";
import { freshAnswer, type Turn } from "./conversation";
import { promptFor } from "./prompt";

function turn(text: string, answer: string, images: string[] = []): Turn {
  return {
    id: text,
    text,
    images,
    imageCount: images.length,
    askedAt: 0,
    answer: { ...freshAnswer(text), text: answer },
  };
}

test("sends the questions that were answered, and the last one", () => {
  expect(promptFor([turn("one", "1"), turn("failed", ""), turn("two", "old answer")])).toEqual([
    { role: "user", content: "one" },
    { role: "assistant", content: "1" },
    { role: "user", content: "two" },
  ]);
});

test("sends pictures as parts, and no empty text", () => {
  const image = { type: "image_url", image_url: { url: "data:image/png;base64,AA==" } };
  const url = image.image_url.url;
  expect(promptFor([turn("what?", "", [url])])[0]?.content).toEqual([{ type: "text", text: "what?" }, image]);
  expect(promptFor([turn("", "", [url])])[0]?.content).toEqual([image]);
});

test("leaves out what lies far back", () => {
  const turns = Array.from({ length: 50 }, (_, index) => turn(`q${index}`, "a"));
  const prompt = promptFor(turns);
  expect(prompt).toHaveLength(39);
  expect([prompt[0]?.content, prompt.at(-1)?.content]).toEqual(["q30", "q49"]);
});
