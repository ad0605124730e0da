import type { RefObject } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { watchCalls } from "./jupyterlab";

/** Calls `come` whenever the panel around an element is wanted from outside of it. */
export function useCalls(inside: RefObject<Element | null>, come: () => void): void {
  const newest = useRef(come);
  newest.current = come;
  useEffect(() => {
    const end = new AbortController();
    const root = inside.current?.closest(".sl-app");
    if (root) watchCalls(root, end.signal, () => newest.current());
    return () => end.abort();
  }, [inside]);
}
