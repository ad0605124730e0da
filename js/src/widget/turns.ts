/**
 * Paints in turns, once a frame. To lay out a long text takes a good part of a frame, so where several panes have
 * something new, those that no longer fit into this frame come first in the next one.
 */

const BUDGET = 8; // milliseconds, of the 16 that a frame has

const waiting = new Set<() => void>();
let frame = 0;

/** Call `paint` in one of the next frames, once. */
export function paintSoon(paint: () => void): void {
  waiting.add(paint);
  if (!frame) frame = requestAnimationFrame(turn);
}

/** Do not call it any more. */
export function paintNever(paint: () => void): void {
  waiting.delete(paint);
}

function turn(): void {
  const began = performance.now();
  frame = 0;
  for (const paint of [...waiting]) {
    waiting.delete(paint);
    paint();
    if (performance.now() - began > BUDGET) break;
  }
  if (waiting.size) frame = requestAnimationFrame(turn);
}
