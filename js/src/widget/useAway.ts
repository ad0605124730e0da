import type { RefObject } from "preact";
import { useEffect } from "preact/hooks";

/** Calls `close` where a person presses anywhere but in `root`, while what it holds is open. */
export function useAway(root: RefObject<HTMLElement | null>, open: boolean, close: () => void): void {
  useEffect(() => {
    if (!open) return;
    const away = (event: Event) => {
      if (!root.current?.contains(event.target as Node)) close();
    };
    document.addEventListener("pointerdown", away, true);
    return () => document.removeEventListener("pointerdown", away, true);
  }, [open]);
}
