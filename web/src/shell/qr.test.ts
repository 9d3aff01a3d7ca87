import { encode } from "uqr";
import { expect, test } from "vitest";
import { qrPath } from "./qr";

/** The modules that the path fills. */
function filled(path: string): Set<string> {
  const cells = new Set<string>();
  for (const [, x, y, width] of path.matchAll(/M(\d+) (\d+)h(\d+)v1h-\3z/g))
    for (let step = 0; step < Number(width); step++) cells.add(`${Number(x) + step},${y}`);
  return cells;
}

test("the path fills exactly the dark modules, and leaves a quiet zone of four around them", () => {
  const text = "https://hub.example:8600/#invite=Zk3_9dLw0aYf3mZ-qQ2nX7Vt1bR5cH8sJ4kP6gUoE0I";
  const { path, size } = qrPath(text);
  const { data } = encode(text, { ecc: "M", border: 0 });
  const dark = data.flatMap((row, y) => row.flatMap((isDark, x) => (isDark ? [`${x + 4},${y + 4}`] : [])));
  expect(filled(path)).toEqual(new Set(dark));
  expect(size).toBe(data.length + 8);
});
