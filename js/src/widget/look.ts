/** How the tokens of a text are shown: coloured by a number, with what cannot be seen in them written out. */
import type { TokensAnswer } from "../protocol";
import { type Scale, scaleOf, look as shaded } from "./charts/colour";
import { niceCeil, signed } from "./scale";
import { spelled } from "./template";

export interface TokenLook {
  /** Spaces are visible, and so are tokens without a text of their own, by their names. */
  spelled: boolean;
  /** By token; null for one that has no number. */
  values: readonly (number | null)[];
  scale: Scale | null;
  /** The tokens' own texts, where they are known: that of a special token is not part of what the pane shows. */
  names: readonly string[];
}

export const PLAIN: TokenLook = { spelled: false, values: [], scale: null, names: [] };

/** What tokens are coloured by: nothing, the change of their log-probability, or a direction. */
export type Colouring = { by: "none" } | { by: "change" } | { by: "projection"; direction: string };

export interface Coloured {
  scale: Scale;
  /** By pane. */
  values: ReadonlyMap<string, readonly (number | null)[]>;
}

/** The numbers of every pane of which something is known, and one scale for all of them. */
export function coloured(by: Colouring, answers: readonly TokensAnswer[]): Coloured | null {
  if (by.by === "none") return null;
  const values = new Map(answers.map((one) => [one.pane, numbers(by, one)]));
  const all = [...values.values()].flat().filter((x) => x !== null);
  if (by.by === "change") {
    const reach = robust(all);
    const beyond = all.some((x) => Math.abs(x) > reach);
    const format = (x: number) =>
      `${beyond && Math.abs(x) >= reach ? (x < 0 ? "≤ " : "≥ ") : ""}${signed(x, reach < 1 ? 2 : 1)}`;
    const title = "change of the log-probability by steering, in nats";
    return { values, scale: { kind: "diverging", min: -reach, max: reach, title, format } };
  }
  const layer = layerOf(by.direction, answers);
  const where = layer === null ? "" : `, into layer ${layer}`;
  const title = `projection on ${by.direction}${where}, as a share of the stream’s norm`;
  return { values, scale: scaleOf(all, title, "diverging", (x) => signed(x)) };
}

function numbers(by: Colouring, { baseline, steered, directions, ...answer }: TokensAnswer) {
  const n = answer.n_prompt;
  if (by.by === "change") {
    return baseline.logprobs.slice(n).map((old, i) => {
      const now = steered?.logprobs[n + i];
      return typeof old === "number" && typeof now === "number" ? now - old : null;
    });
  }
  const at = by.by === "projection" ? directions.findIndex(({ name }) => name === by.direction) : -1;
  const layer = directions[at]?.layer ?? 0;
  // each text as it was made
  const read = answer.pane === "baseline" ? baseline : (steered ?? baseline);
  return (read.cosines[at] ?? []).slice(n).map((layers) => layers[layer] ?? null);
}

function layerOf(direction: string, answers: readonly TokensAnswer[]): number | null {
  return answers[0]?.directions.find(({ name }) => name === direction)?.layer ?? null;
}

/** What 95 of 100 numbers stay within, made round: one wild token does not pale all others. */
function robust(values: readonly number[]): number {
  const sizes = values.map(Math.abs).sort((a, b) => a - b);
  const size = sizes[Math.ceil(0.95 * sizes.length) - 1] ?? 0;
  return size > 0.05 ? niceCeil(size) : 0.05;
}

/** The text of a token as a pane shows it. */
export function shownText(word: string, look: TokenLook, i: number): string {
  if (!look.spelled) return word;
  return word ? spelled(word).replaceAll("↵", "↵\n") : (named(look, i) ?? "");
}

/** The name of a special token; none for a part of a character, whose text the last part has. */
function named(look: TokenLook, i: number): string | undefined {
  const name = look.names[i];
  return name && !/^\ufffd*$/.test(name) ? name : undefined;
}

/** Gives the spans of a text that stands, a span for each token, their look. */
export function dress(spans: HTMLCollection, words: readonly string[], look: TokenLook): void {
  words.forEach((word, i) => {
    const span = spans[i] as HTMLElement | undefined;
    if (!span) return;
    const text = shownText(word, look, i);
    if (span.textContent !== text) span.textContent = text;
    span.classList.toggle("sl-special", look.spelled && !word && text !== "");
    const value = look.scale ? (look.values[i] ?? null) : null;
    span.classList.toggle("sl-shade", value !== null);
    if (value === null || !look.scale) {
      delete span.dataset.sign;
      delete span.dataset.ink;
      span.style.removeProperty("--depth");
      return;
    }
    const { sign, ink, slight, depth } = shaded(look.scale, value);
    Object.assign(span.dataset, { sign, ink, slight });
    span.style.setProperty("--depth", depth);
  });
}
