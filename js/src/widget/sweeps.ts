/** The map of a sweep, from its parts and its answer. */

import type { DirectionInfo, Stat, SweepCell, SweepQuestion } from "../protocol";
import type { Asked } from "./asks";
import { type Scale, scaleOf } from "./charts/colour";
import { minus } from "./numbers";
import { niceCeil, range } from "./scale";

export type Metric = SweepQuestion["metrics"][number];

interface MetricWords {
  title: string;
  hint: string;
  kind: Scale["kind"];
  /** The ends of a scale that does not depend on what was measured. */
  ends?: readonly [number, number];
  format?: (value: number) => string;
}

const percent = (value: number) => `${Math.round(100 * value)} %`;

export const METRICS: Record<Metric, MetricWords> = {
  refusal_score: {
    title: "refusal score",
    hint: "How strongly the next token begins a refusal, as log odds: above 0 it refuses",
    kind: "diverging",
  },
  kl: { title: "KL, nats", hint: "KL to the baseline of the next token", kind: "sequential" },
  refusal_rate: {
    title: "refusal rate",
    hint: "The share of written answers that hold a phrase of refusal",
    kind: "sequential",
    ends: [0, 1],
    format: percent,
  },
  repetition: {
    title: "repetition",
    hint: "The share of word trigrams of an answer that stood in it before",
    kind: "sequential",
    ends: [0, 1],
    format: percent,
  },
  cross_entropy: {
    title: "cross-entropy, nats",
    hint: "Of the baseline’s own answers, per token: how much less likely they become",
    kind: "sequential",
  },
};

/** What is measured with a metric: what costs no more comes along, so that it can be looked at without another run. */
export function together(metric: Metric): Metric[] {
  if (metric === "cross_entropy") return ["refusal_score", "kl", "cross_entropy"];
  const texts: Metric[] = ["refusal_rate", "repetition"];
  return texts.includes(metric) ? ["refusal_score", "kl", ...texts] : ["refusal_score", "kl"];
}

export function metricScale(metric: Metric, values: readonly (number | null)[]): Scale {
  const { title, kind, ends, format } = METRICS[metric];
  return scaleOf(ends ? [...ends] : kind === "sequential" ? [0, ...values] : values, title, kind, format);
}

export interface Spot {
  layer: number;
  coefficient: number;
  control: boolean;
}

export const spotKey = ({ layer, coefficient, control }: Spot) => `${layer} ${coefficient} ${control}`;

/** What is known of every cell: a part has what is new since the one before it. */
export function measured(asked: Asked<"sweep"> | null): Map<string, SweepCell["stats"]> {
  const found = new Map<string, SweepCell["stats"]>();
  const answer = asked?.answer.value;
  for (const { cells } of answer ? [answer] : (asked?.parts.value ?? []))
    for (const cell of cells) found.set(spotKey(cell), cell.stats);
  return found;
}

/** A number with its n and its interval, as a person reads it. */
export function statWords(metric: Metric, stat: Stat | undefined, title = METRICS[metric].title): string {
  const { format } = METRICS[metric];
  if (!stat || stat.n === 0 || stat.value === null) return `${title}: not measured yet`;
  // a small number is told, not rounded to nothing
  const plain = (x: number) =>
    x !== 0 && Math.abs(x) < 0.01 ? Number(x.toPrecision(1)).toString() : x.toFixed(2);
  const words = format ?? ((x: number) => minus(plain(x)));
  const between = stat.low === null || stat.high === null ? "" : ` [${words(stat.low)}, ${words(stat.high)}]`;
  return `${title} ${words(stat.value)}${between}, n = ${stat.n}`;
}

/** Coefficients to begin with: to the ends of the slider either way, in halves, rounded to be read. */
export function firstCoefficients(direction: DirectionInfo | undefined): number[] {
  const { max } = range(
    { direction: "", mode: "add", coefficient: 0, cells: [], tokens: "all", enabled: true },
    direction,
  );
  const half = niceCeil(max / 2);
  return [-2 * half, -half, 0, half, 2 * half].map((x) => Number(x.toPrecision(3)));
}
