import { encode } from "uqr";

/** White around the code, in modules (ISO/IEC 18004, section 9.1). */
const QUIET_ZONE = 4;

/** The dark modules of `text` as the path of an SVG, and the width of the whole in modules, quiet zone included. */
export function qrPath(text: string): { path: string; size: number } {
  const { data, size } = encode(text, { ecc: "M", border: QUIET_ZONE });
  const runs = data.flatMap((row, y) => runsIn(row).map(([x, length]) => `M${x} ${y}h${length}v1h-${length}z`));
  return { path: runs.join(""), size };
}

/** The dark ones that lie side by side: [start, length]. One shape for each leaves no hair lines between them. */
function runsIn(row: readonly boolean[]): [number, number][] {
  const runs: [number, number][] = [];
  row.forEach((isDark, x) => {
    const last = runs.at(-1);
    if (isDark && last && last[0] + last[1] === x) last[1]++;
    else if (isDark) runs.push([x, 1]);
  });
  return runs;
}
