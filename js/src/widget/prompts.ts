/** Sets of prompts, numbers and layers as a person types them. */
import type { PromptSet } from "../protocol";

export const bundled = (source: "harmful" | "harmless", n: number, held_out = false): PromptSet => ({
  source,
  n,
  held_out,
  text: "",
  file: "",
  column: "",
});

/** One a line. */
export const typed = (text: string): PromptSet => ({ ...bundled("harmful", 1), source: "text", text });

/** All of the text. */
export const whole = (text: string): PromptSet => ({ ...typed(text), source: "prompt" });

/** How many prompts a set has, where that is known before it is read. */
export function count({ source, n, text }: PromptSet): number | null {
  if (source === "file") return null;
  if (source === "prompt") return text.trim() ? 1 : 0;
  return source === "text" ? text.split("\n").filter((line) => line.trim()).length : n;
}

/** Numbers in a row, "−2, −1, 0": parted by commas or spaces; null where something is no number, or none is there. */
export function numbers(text: string): number[] | null {
  const words = text
    .replaceAll("−", "-")
    .split(/[\s,;]+/)
    .filter(Boolean);
  const found = words.map(Number);
  return found.length && found.every((x) => Number.isFinite(x)) ? [...new Set(found)] : null;
}

/** Layers, "all", "3", "0-9, 12"; null where something is no layer of the model. */
export function layersOf(text: string, n: number): number[] | null {
  if (["", "all"].includes(text.trim())) return Array.from({ length: n }, (_, i) => i);
  const found = new Set<number>();
  for (const part of text.split(/[\s,;]+/).filter(Boolean)) {
    const [, first, last] = part.match(/^(\d+)(?:[-–](\d+))?$/) ?? [];
    if (first === undefined) return null;
    for (let i = Number(first); i <= Number(last ?? first); i++) found.add(i);
  }
  const layers = [...found].sort((a, b) => a - b);
  return layers.length && (layers.at(-1) ?? n) < n ? layers : null;
}

/** Layers in few words: "3", "2–5", "1, 4, 7–9". */
export function layerWords(layers: readonly number[]): string {
  const runs: [number, number][] = [];
  for (const layer of layers) {
    const last = runs.at(-1);
    if (last && layer === last[1] + 1) last[1] = layer;
    else runs.push([layer, layer]);
  }
  return runs.map(([a, b]) => (a === b ? `${a}` : `${a}–${b}`)).join(", ");
}
