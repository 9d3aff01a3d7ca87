import { describe, expect, test } from "vitest";
import { en } from "./en";
import { failureDetail, failureText } from "./failure";
import { seconds, shortMoment } from "./moment";
import { preferredLanguage } from "./preferred";
import { zh } from "./zh";

/** Every text with its path; those with parameters as they read for some numbers. */
function texts(dictionary: object, path = ""): [string, string][] {
  return Object.entries(dictionary).flatMap(([key, value]): [string, string][] => {
    if (typeof value === "function") return [[path + key, String((value as (...all: unknown[]) => string)(3, 3, 3))]];
    if (typeof value === "string") return [[path + key, value]];
    return texts(value as object, `${path}${key}.`);
  });
}

describe("the texts", () => {
  test("are Chinese where they should be, and English in the other", () => {
    const names = new Set(["product"]);
    const chinese = texts(zh).filter(([path, value]) => !names.has(path) && !/\p{Script=Han}/u.test(value));
    const english = texts(en).filter(([, value]) => value.trim() === "" || /\p{Script=Han}/u.test(value));
    expect([chinese, english]).toEqual([[], []]);
  });

  test("have the same keys", () => {
    expect(texts(zh).map(([path]) => path)).toEqual(texts(en).map(([path]) => path));
  });
});

test("the language is the browser's", () => {
  expect(preferredLanguage(["zh-CN", "en"])).toBe("zh");
  expect(preferredLanguage(["de", "zh-Hant-TW", "en"])).toBe("zh");
  expect(preferredLanguage(["en-US", "zh"])).toBe("en");
  expect(preferredLanguage(["de"])).toBe("en");
});

test("moments are as short as they can be understood", () => {
  const at = (text: string) => new Date(text).getTime();
  const now = at("2026-11-23T15:00:00");
  expect(shortMoment(at("2026-11-23T09:05:00"), now, "en")).toBe("09:05");
  expect(shortMoment(at("2026-11-22T09:05:00"), now, "en")).toBe("Nov 22, 09:05");
  expect(shortMoment(at("2024-01-02T00:05:00"), now, "zh-CN")).toBe("2024年1月2日 00:05");
  expect([seconds(423, "en"), seconds(3149, "en"), seconds(12_345, "en")]).toEqual(["0.42", "3.1", "12"]);
});

test("a failure is told by its code, and by the hub's own words where there are none", () => {
  const failure = { status: 503, code: "queue_full", detail: "9 requests are waiting", retryAfterS: 1 };
  expect([failureText(failure, zh), failureDetail(failure, zh)]).toEqual([
    zh.failures.queue_full,
    "9 requests are waiting",
  ]);
  const strange = { ...failure, code: "new_code" };
  expect([failureText(strange, en), failureDetail(strange, en)]).toEqual(["9 requests are waiting", ""]);
});
