/** What rows cost on the prompt at hand, asked of the kernel while nothing runs, and said in words. */

import { useSignal, useSignalEffect } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import type { PanelState, SteeringState, ZoneAnswer, ZoneQuestion } from "../protocol";
import { minus } from "./numbers";
import type { Range } from "./scale";
import type { Store } from "./store";
import { useAsk } from "./useAsk";

const REST_MS = 500;
const TICKS = 16;

/** The state as it was run, once the panel has been at rest for a moment; null before that and while something runs.
 *  unasked: on a server each question is a job in everybody's queue, so there a person asks for it, state by state.
 */
export function useRested(store: Store) {
  const { prompt, revision, steering } = store.state.value;
  const weighed = store.weighed.value;
  const byHand = weighed?.prompt === prompt && weighed.steering === steering;
  const unasked = store.info.value.backend === "ndif" && !byHand;
  const status = store.stream.status.value;
  const run = store.stream.run.value;
  const [rested, setRested] = useState<PanelState | null>(null);
  useEffect(() => {
    if (status !== "done" && status !== "stopped") return;
    const timer = setTimeout(() => {
      const now = store.state.peek();
      setRested(now.prompt.trim() ? now : null);
    }, REST_MS);
    return () => clearTimeout(timer);
  }, [status, run, revision]);
  const same = rested && rested.prompt === prompt && rested.steering === steering && status !== "running";
  return { rested, settled: Boolean(same), fresh: Boolean(same && !unasked), unasked, made: useMade(store) };
}

type Rested = ReturnType<typeof useRested>;

/** The revision of the newest state that no panel made: only there do steps change that have no row. */
function useMade(store: Store): number {
  const made = useSignal(0);
  useSignalEffect(() => {
    const { origin, revision } = store.state.value;
    if (origin === "") made.value = revision;
  });
  return made.value;
}

const prints = (store: Store, rows: readonly SteeringState[]) =>
  rows.map((row) => store.directions.value.find((one) => one.name === row.direction)?.fingerprint ?? "");

/** KL of every row, and whether it is of an older state. */
export function useCosts(store: Store, { rested, fresh, unasked, made }: Rested) {
  const { asked, answer } = useAsk(
    store,
    rested && fresh && rested.steering.length
      ? {
          kind: "costs",
          prompt: rested.prompt,
          steering: rested.steering,
          fingerprints: prints(store, rested.steering),
          revision: rested.beyond.length ? made : 0,
          epoch: store.info.value.epoch,
        }
      : null,
  );
  const failed = asked?.status.value === "failed" || asked?.status.value === "cancelled";
  useEffect(() => {
    if (failed) store.weighed.value = null; // it can be asked for again
  }, [failed]);
  const same = answer?.kl.length === store.state.value.steering.length;
  return {
    budget: answer?.budget ?? 0,
    kl: same && !unasked ? answer.kl : [], // what nobody asks again must not stand beside what it is not of
    stale: !fresh || asked?.status.value !== "answered",
    error: asked?.error.value,
  };
}

/** All that a zone depends on: the rows, but for where the slider of its own one stands. */
const unmoved = (rows: readonly SteeringState[], index: number) =>
  rows.map((row, i) => (i === index ? { ...row, coefficient: 0, enabled: true } : row));

/** Where a row's slider leaves the sensible; asked for the row that is in hand. */
export function useZone(
  store: Store,
  { rested, fresh, made }: Rested,
  index: number,
  here: boolean,
  range: Range,
) {
  const question = (state: PanelState): ZoneQuestion => ({
    kind: "zone",
    prompt: state.prompt,
    steering: unmoved(state.steering, index),
    row: index,
    fingerprints: prints(store, state.steering),
    revision: state.beyond.length ? made : 0,
    epoch: store.info.value.epoch,
    temperature: state.temperature,
    seed: state.seed,
    numbers: ticks(range),
  });
  const wanted = here && (store.info.value.backend !== "ndif" || store.weighed.value?.row === index);
  const { asked, answer } = useAsk(
    store,
    wanted && rested && fresh && rested.steering[index]?.cells.length ? question(rested) : null,
  );
  // of anything else than what is set now it would say something false
  const valid =
    asked?.status.value === "answered" &&
    JSON.stringify(asked.question) === JSON.stringify(question(store.state.value));
  return valid ? answer : null;
}

/** Where the kernel looks: numbers over the whole slider, its ends and 0 exactly among them. */
export function ticks({ min, max }: Range): number[] {
  const even = Array.from({ length: TICKS + 1 }, (_, i) => (min * (TICKS - i) + max * i) / TICKS);
  return [...new Set([...even, 0])].sort((a, b) => a - b);
}

export interface Warning {
  /** In a word or two, beside the number. */
  short: string;
  /** As a sentence. */
  words: string;
}

/** What is to be said of a row of which no more is known than its KL. */
export function overBudget(kl: number | null | undefined, budget: number): Warning | null {
  if (typeof kl !== "number" || !(kl > budget)) return null;
  return { short: `over ${budget}`, words: `The KL is over ${budget} nats on this prompt: ${OTHER_ODDS}` };
}

const OTHER_ODDS = "the first token has other odds than without this row.";

/** What is to be said of a number on a row's slider. */
export function warning(zone: ZoneAnswer | null, number: number, range: Range): Warning | null {
  if (!zone) return null;
  const around = (parts: ZoneAnswer["costly"]) => parts.find(([from, to]) => from <= number && number <= to);
  const repeats = around(zone.repeats);
  if (repeats)
    return {
      short: "repeats itself",
      words: `${where(repeats, range)} the text repeats itself on this prompt.`,
    };
  const costly = around(zone.costly);
  if (costly)
    return {
      short: `over ${zone.budget}`,
      words: `${where(costly, range)} the KL is over ${zone.budget} nats on this prompt: ${OTHER_ODDS}`,
    };
  return null;
}

function where([from, to]: [number, number], { min, max }: Range): string {
  if (from <= min && to >= max) return "All along this slider";
  if (from <= min) return `From ${plain(to)} down`;
  if (to >= max) return `From ${plain(from)} up`;
  return `From ${plain(from)} to ${plain(to)}`;
}

export interface Stretch {
  from: number;
  to: number;
  kind: "kl" | "repeats";
}

/** The shaded parts of a slider's track. */
export function stretches(zone: ZoneAnswer | null): Stretch[] {
  if (!zone) return [];
  const of = (kind: Stretch["kind"], parts: ZoneAnswer["costly"]) =>
    parts.map(([from, to]): Stretch => ({ kind, from, to }));
  return [...of("kl", zone.costly), ...of("repeats", zone.repeats)];
}

const plain = (x: number) => minus(Number(x.toPrecision(2)));
