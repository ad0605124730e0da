import { useState } from "preact/hooks";
import type { Asks, PanelState, Question } from "../protocol";
import type { Asked } from "./asks";
import type { Store } from "./store";

interface Action<Q extends Question> {
  /** What was asked for last; null before that. */
  asked: Asked<Q["kind"]> | null;
  /** Whether it was answered, and the rows are still as they were then. */
  stands: boolean;
  /** Ask, and go on with the answer when it comes. */
  act<P extends Q>(what: P, then?: (answer: Asks[P["kind"]]["answer"]) => void): void;
  forget(): void;
}

/** A question that is asked when somebody does something, as `useAsk` is for one that follows the state. */
export function useAction<Q extends Question>(store: Store): Action<Q> {
  const [asked, setAsked] = useState<Asked<Q["kind"]> | null>(null);
  const [left, setLeft] = useState("");
  const rows = ({ steering }: PanelState) => JSON.stringify(steering);
  return {
    asked,
    stands: asked?.status.value === "answered" && rows(store.state.value) === left,
    act(what, then) {
      store.flush(); // what is typed or moved comes before it
      const made = store.ask(what);
      setAsked(made as unknown as Asked<Q["kind"]>);
      made.status.subscribe((status) => {
        const answer = made.answer.peek();
        if (status !== "answered" || !answer) return;
        setLeft(rows(store.state.peek())); // the kernel tells what is set before it answers
        then?.(answer);
      });
    },
    forget: () => setAsked(null),
  };
}
