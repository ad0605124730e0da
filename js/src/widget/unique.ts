import { useId, useRef } from "preact/hooks";

/** An id that two panels in one notebook do not share; Preact's own repeats from root to root. */
export function useUnique(): string {
  const salt = useRef(Math.random().toString(36).slice(2));
  return `sl-${salt.current}-${useId()}`;
}
