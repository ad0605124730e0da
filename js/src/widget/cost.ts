/** What rows cost on the prompt at hand, asked of the kernel while nothing runs, and said in words. */
import { useEffect, useState } from "preact/hooks";
import type { SteeringState, ZoneAnswer } from "../protocol";
import type { Range } from "./scale";
import type { Store } from "./store";
import { useAsk } from "./useAsk";

const REST_MS = 500;
const TICKS = 16;

/** The state as it was run, once the panel has been at rest for a moment; null before that and while something runs. */
export function useRested(store: Store) {
  const { prompt, revision, steering } = store.state.value;
  const status = store.stream.status.value;
  const run = store.stream.run.value;
  const [rested, setRested] = useState<{ prompt: string; steering: SteeringState[] } | null>(null);
  useEffect(() => {
    if (status !== "done" && status !== "stopped") return;
    const timer = setTimeout(() => {
      const now = store.state.peek();
      setRested(now.prompt.trim() ? { prompt: now.prompt, steering: now.steering } : null);
    }, REST_MS);
    return () => clearTimeout(timer);
  }, [status, run, revision]);
  const fresh = rested && rested.prompt === prompt && rested.steering === steering && status !== "running";
  return { rested, fresh: Boolean(fresh) };
}

type Rested = ReturnType<typeof useRested>;

const prints = (store: Store, rows: readonly SteeringState[]) =>
  rows.map((row) => store.directions.value.find((one) => one.name === row.direction)?.fingerprint ?? "");

/** KL of every row, and whether it is of an older state. */
export function useCosts(store: Store, { rested, fresh }: Rested) {
  const rows = rested?.steering ?? [];
  const { asked, answer } = useAsk(
    store,
    rested && fresh && rows.length
      ? { kind: "costs", prompt: rested.prompt, steering: rows, fingerprints: prints(store, rows) }
      : null,
  );
  const same = answer?.kl.length === store.state.value.steering.length;
  return { kl: same ? answer.kl : [], stale: !fresh || asked?.status.value === "going" };
}

/** Where a row's slider leaves the sensible; asked for the row that is in hand. */
export function useZone(store: Store, { rested, fresh }: Rested, index: number, here: boolean, range: Range) {
  const rows = (rested?.steering ?? []).map((row, i) =>
    i === index ? { ...row, coefficient: 0, enabled: true } : row,
  );
  const row = rows[index];
  const numbers = ticks(range);
  const { asked, answer } = useAsk(
    store,
    here && rested && fresh && row?.cells.length && numbers.length
      ? {
          kind: "zone",
          prompt: rested.prompt,
          steering: rows,
          row: index,
          fingerprints: prints(store, rows),
          numbers,
        }
      : null,
  );
  const mine = asked?.question;
  const now = store.state.value.steering[index];
  const of = mine?.steering[mine.row];
  // of another row, mode, place or prompt it would say something false
  const valid =
    answer &&
    asked?.status.value === "answered" &&
    mine?.prompt === store.state.value.prompt &&
    mine.row === index &&
    of?.direction === now?.direction &&
    of?.mode === now?.mode &&
    of?.cells.length === now?.cells.length;
  return valid ? answer : null;
}

/** Where the kernel looks: numbers over the whole slider, 0 left out. */
export function ticks({ min, max }: Range): number[] {
  return Array.from({ length: TICKS + 1 }, (_, i) => min + (i * (max - min)) / TICKS)
    .map((x) => Number(x.toPrecision(6)))
    .filter((x) => Math.abs(x) > (max - min) / 1000);
}

export interface Warning {
  /** In a word or two, beside the number. */
  short: string;
  /** As a sentence. */
  words: string;
}

/** What is to be said of a number on a row's slider. */
export function warning(zone: ZoneAnswer | null, number: number): Warning | null {
  if (!zone || number === 0) return null;
  const side = number < 0 ? 0 : 1;
  const past = (from: number | null) => from !== null && Math.abs(number) >= Math.abs(from);
  const { repeats_from, kl_from, budget } = zone;
  const repeats = repeats_from[side] ?? null;
  const costly = kl_from[side] ?? null;
  if (past(repeats))
    return {
      short: "repeats itself",
      words: `From ${plain(repeats)} on the text repeats itself on this prompt.`,
    };
  if (past(costly))
    return {
      short: `over ${budget}`,
      words: `From ${plain(costly)} on the KL passes ${budget} nats on this prompt: the next token is no longer what it was.`,
    };
  return null;
}

export interface Stretch {
  from: number;
  to: number;
  kind: "kl" | "repeats";
}

/** The shaded parts of a slider's track. */
export function stretches(zone: ZoneAnswer | null, { min, max }: Range): Stretch[] {
  if (!zone) return [];
  const of = (kind: Stretch["kind"], [low, high]: [number | null, number | null]): Stretch[] => [
    ...(low !== null && low > min ? [{ kind, from: min, to: low }] : []),
    ...(high !== null && high < max ? [{ kind, from: high, to: max }] : []),
  ];
  return [...of("kl", zone.kl_from), ...of("repeats", zone.repeats_from)];
}

const plain = (x: number | null) =>
  Number((x ?? 0).toPrecision(2))
    .toString()
    .replace("-", "−");
