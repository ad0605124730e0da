/** How strongly each site expresses the selected direction on the prompt of the last run; asked once the run is over. */
import { useEffect, useState } from "preact/hooks";
import type { ExpressionAnswer } from "../protocol";
import type { Cell } from "./cells";
import type { Store } from "./store";
import { useAsk } from "./useAsk";

export interface Strong {
  /** From 0, no more than chance, to 1, the strongest site. */
  depth: number;
  words: string;
}

export function strengthOf(answer: ExpressionAnswer): (cell: Cell) => Strong | null {
  const most = Math.max(...answer.shares.flat().map((share) => share ?? 0));
  const reach = Math.max(most - answer.chance, 1e-9);
  return ([layer, point]) => {
    const share = answer.shares[answer.points.indexOf(point)]?.[layer];
    if (share === null || share === undefined) return null;
    return {
      depth: Math.max(0, Math.min(1, (share - answer.chance) / reach)),
      words: `${share.toFixed(2)} of the stream lies along it (chance: ${answer.chance.toFixed(2)})`,
    };
  };
}

export function useStrength(store: Store, open: boolean) {
  const { steering, prompt } = store.state.value;
  const status = store.stream.status.value;
  const run = store.stream.run.value;
  // what is typed is not asked about before it was run
  const [ran, setRan] = useState<string | null>(null);
  useEffect(() => {
    if (status === "done" || status === "stopped") setRan(store.state.peek().prompt);
  }, [status, run]);
  const row = steering[Math.min(store.selected.value, steering.length - 1)];
  const direction = store.directions.value.find((one) => one.name === row?.direction);
  const ready = open && ran?.trim() && direction?.fingerprint && status !== "running";
  const { asked, answer } = useAsk(
    store,
    ready
      ? {
          kind: "expression",
          direction: direction.name,
          fingerprint: direction.fingerprint,
          epoch: store.info.value.epoch,
          prompt: ran ?? "",
        }
      : null,
  );
  const of = asked?.question.fingerprint === direction?.fingerprint;
  return {
    of: answer && of ? strengthOf(answer) : undefined,
    stale: prompt !== asked?.question.prompt || asked?.status.value === "going",
  };
}
