import { useEffect, useRef } from "preact/hooks";
import type { Question } from "../protocol";
import type { Asked, Kind } from "./asks";
import type { Store } from "./store";

interface Shared<K extends Kind> {
  asked: Asked<K> | null;
  ask(what: Asked<K>["question"]): void;
}

/**
 * What is found in minutes is not a view's alone: what one view asked the others show, and a page that is loaded again takes it
 * from the kernel, once its place is `open`. `fill` hears of a question that this view did not ask.
 */
export function useShared<K extends Kind>(
  store: Store,
  place: string,
  open: boolean,
  mine: (question: Question) => boolean,
  fill: (question: Asked<K>["question"]) => void,
): Shared<K> {
  const newest = store.questions.newest(place);
  const known = store.questions.known.value.find(mine);
  const own = useRef<unknown>(null);
  const asked = newest.value as unknown as Asked<K> | null;
  useEffect(() => {
    if (open && known && !newest.peek()) newest.value = store.questions.join(known);
  }, [open, known]);
  const gone = asked?.status.value === "gone";
  useEffect(() => {
    if (gone) newest.value = null;
  }, [gone]);
  useEffect(() => {
    if (asked && asked !== own.current) fill(asked.question);
  }, [asked]);
  return {
    asked,
    ask: (what) => {
      newest.value = store.ask(what) as Asked;
      own.current = newest.value;
    },
  };
}
