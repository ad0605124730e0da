/**
 * Texts that are ready before they are asked for: those of the coefficients beside a slider's. The kernel makes them while it
 * rests; what is shown of them at once, the run that follows confirms.
 */
import { type Signal, signal } from "@preact/signals";
import type { DirectionInfo, PanelState, PaneResult, Ready } from "../protocol";
import { range, tidy } from "./scale";

export type Texts = Record<string, PaneResult>;

/** All that is ready for one slider, while nothing else is changed. */
interface Kept {
  row: number;
  context: string;
  texts: ReadonlyMap<number, Texts>;
}

export class Ahead {
  private readonly kept: Signal<Kept | null> = signal(null);

  /** What is ready for the state as it stands; null where it has to be run. */
  lookup(state: PanelState): Texts | null {
    const kept = this.kept.peek();
    if (!kept || context(state, kept.row) !== kept.context) return null;
    const row = state.steering[kept.row];
    return (row?.enabled && kept.texts.get(row.coefficient)) || null;
  }

  /** The coefficients that are ready for a row's slider. */
  marks(state: PanelState, row: number): readonly number[] {
    const kept = this.kept.value;
    if (kept?.row !== row || context(state, row) !== kept.context) return NONE;
    return [...kept.texts.keys()];
  }

  /** The coefficients for which texts are wanted, the nearest first: at most `most`, but for those that are ready. */
  wanted(state: PanelState, row: number, direction: DirectionInfo | undefined, most: number): number[] {
    const now = state.steering[row];
    if (!now || now.cells.length === 0) return [];
    const ready = new Set(this.marks(state, row));
    return neighbours(now.coefficient, range(now, direction), most).filter((c) => !ready.has(c));
  }

  /** From the kernel; what belongs to another state than ours is let pass. */
  take({ state, row, texts }: Ready, ours: PanelState): void {
    const of = context(state, row);
    if (of !== context(ours, row)) return;
    const kept = this.kept.value;
    const more = kept?.row === row && kept.context === of ? [...kept.texts] : [];
    const fresh = texts.map(({ coefficient, panes }) => [coefficient, panes] as const);
    this.kept.value = { row, context: of, texts: new Map([...more, ...fresh]) };
  }

  /** What was ready may not be true any more. */
  clear(): void {
    this.kept.value = null;
  }
}

const NONE: readonly number[] = [];

/** All that a text depends on but for the row's coefficient; to move a slider turns its row on. */
function context(state: PanelState, row: number): string {
  const { prompt, steering, max_new_tokens, temperature, seed, control } = state;
  const rows = steering.map((one, i) => (i === row ? { ...one, coefficient: 0, enabled: true } : one));
  return JSON.stringify([prompt, rows, max_new_tokens, temperature, seed, control]);
}

/** The value itself and the steps of its slider, the nearest first. */
export function neighbours(
  value: number,
  { min, max, step }: { min: number; max: number; step: number },
  most: number,
): number[] {
  const steps = Array.from({ length: Math.floor((max - min) / step + 1.5) }, (_, i) =>
    tidy(Math.min(min + i * step, max), step),
  );
  const near = steps.filter((x) => x !== value).sort((a, b) => Math.abs(a - value) - Math.abs(b - value));
  return [value, ...near].slice(0, most);
}
