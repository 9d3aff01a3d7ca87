import { useCallback, useEffect, useRef, useState, type RefObject } from "react";

const NEAR_PX = 60;

interface StickyScroll {
  box: RefObject<HTMLDivElement | null>;
  content: RefObject<HTMLDivElement | null>;
  isAtEnd: boolean;
  toEnd: () => void;
}

/** Keeps the end in view while content grows, unless the reader scrolled up. */
export function useStickyScroll(): StickyScroll {
  const box = useRef<HTMLDivElement>(null);
  const content = useRef<HTMLDivElement>(null);
  const isStuck = useRef(true);
  const [isAtEnd, setAtEnd] = useState(true);

  const toEnd = useCallback(() => {
    isStuck.current = true;
    setAtEnd(true);
    box.current?.scrollTo({ top: box.current.scrollHeight });
  }, []);

  useEffect(() => {
    const [outer, inner] = [box.current, content.current];
    if (!outer || !inner) return;
    let top = outer.scrollTop;
    const look = () => {
      // Only a move upwards is the reader's: content that grew since a move down also leaves a distance to the end.
      if (outer.scrollHeight - outer.scrollTop - outer.clientHeight < NEAR_PX) isStuck.current = true;
      else if (outer.scrollTop < top) isStuck.current = false;
      top = outer.scrollTop;
      setAtEnd(isStuck.current);
    };
    const follow = new ResizeObserver(() => {
      if (isStuck.current) outer.scrollTo({ top: outer.scrollHeight });
    });
    outer.addEventListener("scroll", look, { passive: true });
    follow.observe(inner);
    follow.observe(outer);
    return () => {
      outer.removeEventListener("scroll", look);
      follow.disconnect();
    };
  }, []);

  return { box, content, isAtEnd, toEnd };
}
