import { describe, expect, test } from "vitest";
import { cleanKey, isPossibleKey, keyInFragment } from "./key";

describe("the key", () => {
  test("comes out of the fragment", () => {
    expect(keyInFragment("#key=ag-a+b%2Fc")).toBe("ag-a+b/c");
    expect(keyInFragment("#tab=chat&key=ag-1")).toBe("ag-1");
    for (const none of ["", "#", "#key=", "#monkey=ag-1", "#key=%E0%A4%A"]) expect(keyInFragment(none)).toBeNull();
  });

  test("may be pasted with blanks, in quotes, or as the whole address", () => {
    expect(cleanKey('  "ag-1"\n')).toBe("ag-1");
    expect(cleanKey("http://127.0.0.1:8600/#key=ag-1 ")).toBe("ag-1");
  });

  test("must fit into a header", () => {
    expect(isPossibleKey("ag-AZ09._~+/=")).toBe(true);
    for (const wrong of ["", "ag 1", "密钥", "a\nb", "x".repeat(513)]) expect(isPossibleKey(wrong)).toBe(false);
  });
});
