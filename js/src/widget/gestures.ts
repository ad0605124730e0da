/**
 * Tells which changes belong together, so that one undo takes all of them back: those of a drag, and those of the same thing in
 * quick succession, as when a prompt is typed or an arrow key is held.
 */
import type { PanelState } from "../protocol";

const PAUSE_MS = 1000;

export class Gestures {
  private held = false;
  private fresh = true;
  private thing = "";
  private at = Number.NEGATIVE_INFINITY;
  private count = 0;

  constructor(private readonly origin: string) {}

  /** A pointer is down, or up again: either begins a new gesture. */
  hold(held: boolean): void {
    this.held = held;
    this.fresh = true;
  }

  /** The name of the gesture that a change of this thing belongs to. */
  next(thing: string): string {
    const soon = thing === this.thing && performance.now() - this.at < PAUSE_MS;
    if (this.fresh || !(this.held || soon)) this.count++;
    this.fresh = false;
    this.thing = thing;
    this.at = performance.now();
    return `${this.origin}-${this.count}`;
  }
}

/** What a change changes: "prompt", or "steering.0.coefficient". A row that is turned on by a move of its slider is no change of its own. */
export function thing(before: PanelState, change: Partial<PanelState>): string {
  return Object.keys(change)
    .map((name) => {
      if (!change.steering || name !== "steering") return name;
      const rows = change.steering.flatMap((row, i) => {
        const old = before.steering[i];
        const fields = Object.keys(row) as (keyof typeof row)[];
        return fields.filter((field) => old?.[field] !== row[field]).map((field) => `${i}.${field}`);
      });
      const without = rows.filter((field) => !field.endsWith(".enabled"));
      return `steering.${(without.length ? without : rows).join("+")}`;
    })
    .join(" ");
}
