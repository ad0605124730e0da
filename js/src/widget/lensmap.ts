/** What the maps of the tab Lens show, from the kernel's answers. Rows are layers, the last one on top; columns are tokens. */
import type { LensAnswer, LensCells, TokensAnswer } from "../protocol";
import { type Scale, scaleOf } from "./charts/colour";
import type { HeatCell } from "./charts/Heatmap";
import { percent } from "./Likely";
import { signed } from "./scale";
import { spelled } from "./template";

export type Under = "baseline" | "steered" | "difference";

export interface LensMap {
  under: Under;
  layers: number;
  start: number;
  total: number;
  n_prompt: number;
  tokens: readonly string[];
  scale: Scale;
  cell(layer: number, column: number): HeatCell;
  detail(layer: number, column: number): string;
}

/** The tokens of one cell, with their numbers. */
export function cellOf(answer: LensAnswer, cells: LensCells, layer: number, column: number) {
  const numbers = cells.values[layer]?.[column] ?? [];
  return (cells.words[layer]?.[column] ?? []).map((word, i): [string, number] => [
    answer.words[word] ?? "",
    numbers[i] ?? 0,
  ]);
}

export function nextTokens(answer: LensAnswer, under: Under): LensMap {
  const { start, total, n_prompt, tokens, baseline, steered, gained, kl } = answer;
  const common = { under, layers: kl.length, start, total, n_prompt, tokens };
  const at = (layer: number, column: number) =>
    `layer ${layer}, after ${spelled(tokens[column] ?? "")} (token ${start + column + 1})`;
  if (under === "difference") {
    const scale = scaleOf(kl.flat(), "KL(baseline ‖ steered) in nats");
    const rose = (layer: number, column: number) =>
      gained ? cellOf(answer, gained, layer, column).filter(([, by]) => by >= 0.001) : [];
    return {
      ...common,
      scale: { ...scale, min: 0 },
      cell: (layer, column) => ({
        value: kl[layer]?.[column] ?? null,
        text: spelled(rose(layer, column)[0]?.[0] ?? " ").replace(/^␣$/, ""),
      }),
      detail: (layer, column) => {
        const value = kl[layer]?.[column];
        const more = rose(layer, column).map(([word, by]) => `${spelled(word)} ${points(by)}`);
        return `${at(layer, column)}: KL ${value?.toFixed(3) ?? "not known"}${more.length ? `; rose most: ${more.join(", ")}` : ""}`;
      },
    };
  }
  const side = under === "steered" ? (steered ?? baseline) : baseline;
  return {
    ...common,
    scale: {
      kind: "sequential",
      min: 0,
      max: 1,
      title: "probability of the likeliest token",
      format: (p) => `${Math.round(100 * p)} %`,
    },
    cell: (layer, column) => {
      const [first] = cellOf(answer, side, layer, column);
      return first ? { value: first[1], text: spelled(first[0]) } : { value: null };
    },
    detail: (layer, column) => {
      const likely = cellOf(answer, side, layer, column);
      return `${at(layer, column)}: ${likely.map(([word, p]) => `${spelled(word)} ${percent(p)}`).join(", ")}`;
    },
  };
}

export function projected(
  answer: TokensAnswer,
  direction: string,
  under: Under,
  start: number,
  window: number,
): LensMap {
  const { baseline, steered, n_prompt, directions } = answer;
  const d = Math.max(
    0,
    directions.findIndex(({ name }) => name === direction),
  );
  const [old, now] = [baseline.cosines[d] ?? [], steered?.cosines[d] ?? baseline.cosines[d] ?? []];
  const tokens = answer.tokens.slice(start, start + window);
  const value = (layer: number, token: number): number | null => {
    const [before, after] = [old[token]?.[layer], now[token]?.[layer]];
    if (before === undefined || after === undefined) return null;
    return under === "baseline" ? before : under === "steered" ? after : after - before;
  };
  const layers = old[0]?.length ?? 0;
  const changes = () => old.flatMap((line, token) => line.map((_, layer) => value(layer, token)));
  const all = under === "difference" ? changes() : [...old, ...now].flat(); // one scale for either side
  const what = under === "difference" ? "change of the projection" : "projection";
  const title = `${what} on ${directions[d]?.name ?? ""}, as a share of the stream’s norm`;
  return {
    under,
    layers,
    start,
    total: answer.tokens.length,
    n_prompt,
    tokens,
    scale: scaleOf(all, title, "diverging", (x) => signed(x)),
    cell: (layer, column) => ({ value: value(layer, start + column) }),
    detail: (layer, column) =>
      `into layer ${layer}, ${spelled(tokens[column] ?? "")} (token ${start + column + 1}): ${signed(value(layer, start + column) ?? 0)}`,
  };
}

/** By how many percentage points a probability rose. */
export function points(by: number): string {
  return `${signed(100 * by, Math.abs(by) < 0.1 ? 1 : 0)} points`;
}
