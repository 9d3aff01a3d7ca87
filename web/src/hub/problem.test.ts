import { describe, expect, test } from "vitest";
import { problemIn } from "./problem";

describe("problemIn", () => {
  test("reads problem details and OpenAI's errors alike", () => {
    const details = { type: "x", title: "Duplicate id", status: 409, code: "duplicate_id", detail: "id 'a' is taken" };
    expect(problemIn(details, 500)).toMatchObject({ status: 409, code: "duplicate_id", detail: "id 'a' is taken" });
    const openai = { error: { message: "over the limit", type: "t", param: null, code: "rate_limit_exceeded" } };
    expect(problemIn(openai, 429, "3")).toMatchObject({ status: 429, code: "rate_limited", retryAfterS: 3 });
  });

  test("makes do with bodies of strangers", () => {
    expect(problemIn(null, 502)).toMatchObject({ status: 502, code: "unknown", detail: "" });
    expect(problemIn("<html>", 401)).toMatchObject({ code: "unauthorized" });
    expect(problemIn({ error: "text" }, 500, "Wed, 21 Oct 2026 07:28:00 GMT")).toMatchObject({
      detail: "text",
      retryAfterS: null,
    });
  });

  test("tells what may pass from what will not", () => {
    const passing = [0, 408, 429, 500, 503, 507].map((status) => problemIn({}, status).isPassing);
    const lasting = [400, 401, 403, 404, 409, 413, 422].map((status) => problemIn({}, status).isPassing);
    expect([new Set(passing), new Set(lasting)]).toEqual([new Set([true]), new Set([false])]);
  });
});
