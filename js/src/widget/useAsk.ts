import { useEffect, useRef, useState } from "preact/hooks";
import type { Asks, Question } from "../protocol";
import type { Asked } from "./asks";
import type { Store } from "./store";

interface Following<Q extends Question> {
  /** The newest question; null before the first. */
  asked: Asked<Q["kind"]> | null;
  /** The newest answer there is; of an older question while the newest is being answered. */
  answer: Asks[Q["kind"]]["answer"] | null;
  /** Ask what failed or was cancelled once more. */
  again(): void;
}

/**
 * Asks again whenever the question changes, and leaves the one before. Null asks nothing, and leaves what there is: a tab
 * that is not open rests. What failed is asked again where it is asked anew, or on request.
 */
export function useAsk<Q extends Question>(store: Store, what: Q | null): Following<Q> {
  const [asked, setAsked] = useState<Asked<Q["kind"]> | null>(null);
  const last = useRef<Asks[Q["kind"]]["answer"] | null>(null);
  const newest = useRef<{ key: string; asked: Asked<Q["kind"]> } | null>(null);
  const [attempt, setAttempt] = useState(0);
  const key = what && JSON.stringify(what);
  useEffect(() => {
    const failed = ["failed", "cancelled"].includes(newest.current?.asked.status.peek() ?? "");
    if (!what || !key || (newest.current?.key === key && !failed)) return;
    newest.current?.asked.leave();
    newest.current = { key, asked: store.ask(what) };
    setAsked(newest.current.asked);
  }, [key, attempt]);
  useEffect(() => () => newest.current?.asked.leave(), []);
  if (asked?.answer.value) last.current = asked.answer.value;
  return { asked, answer: last.current, again: () => setAttempt(attempt + 1) };
}
