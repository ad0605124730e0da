import { useState } from "preact/hooks";
import type { Asks, Question } from "../protocol";
import type { Asked } from "./asks";
import type { Store } from "./store";

interface Action<Q extends Question> {
  /** What was asked for last; null before that. */
  asked: Asked<Q["kind"]> | null;
  /** Ask, and go on with the answer when it comes. */
  act(what: Q, then: (answer: Asks[Q["kind"]]["answer"]) => void): void;
  forget(): void;
}

/** A question that is asked when somebody does something, as `useAsk` is for one that follows the state. */
export function useAction<Q extends Question>(store: Store): Action<Q> {
  const [asked, setAsked] = useState<Asked<Q["kind"]> | null>(null);
  return {
    asked,
    act(what, then) {
      const made = store.ask(what);
      setAsked(made);
      made.status.subscribe((status) => {
        const answer = made.answer.peek();
        if (status === "answered" && answer) then(answer);
      });
    },
    forget: () => setAsked(null),
  };
}
