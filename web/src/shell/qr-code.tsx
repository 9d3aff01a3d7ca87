import { useMemo } from "react";
import { qrPath } from "./qr";

/** Dark on white in both themes: many scanners read no other. */
export function QrCode({ content, label }: { content: string; label: string }) {
  const { path, size } = useMemo(() => qrPath(content), [content]);
  return (
    <svg className="qr" viewBox={`0 0 ${size} ${size}`} role="img" aria-label={label} shapeRendering="crispEdges">
      <rect width={size} height={size} fill="#fff" />
      <path d={path} fill="#000" />
    </svg>
  );
}
