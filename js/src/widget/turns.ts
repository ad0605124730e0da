/**
 * Paints once a frame: all that has something new at once, so that the browser lays the page out once for all of them.
 *
 * A long text takes a good part of a frame. So while one frame after the other has something to paint, the next one after
 * a frame that took too long has fewer; those that had to wait come first.
 */

export interface Painter {
  /** Ask the page what it is like, while nothing has been changed. */
  before(): void;
  change(): void;
  /** The same when all have changed what they had to, which lays it out; and scroll. */
  after(): void;
}

const BUDGET = 8; // milliseconds, of the 16 that a frame has
const REST = 100; // milliseconds without painting, after which nothing is known of how long it takes

const waiting = new Set<Painter>();
let frame = 0;
let most = Number.POSITIVE_INFINITY; // how many of them a frame takes
let last = 0; // when the last frame was

/** Paint in one of the next frames, once. */
export function paintSoon(painter: Painter): void {
  waiting.add(painter);
  if (!frame) frame = requestAnimationFrame(turn);
}

/** Do not paint it any more. */
export function paintNever(painter: Painter): void {
  waiting.delete(painter);
}

function turn(at: number): void {
  if (at - last > REST) most = Number.POSITIVE_INFINITY;
  last = at;
  const now = [...waiting].slice(0, most);
  frame = 0;
  for (const painter of now) waiting.delete(painter);
  for (const painter of now) painter.before();
  const began = performance.now();
  for (const painter of now) painter.change();
  for (const painter of now) painter.after();
  if (performance.now() - began > BUDGET) most = Math.max(1, now.length - 1);
  else if (now.length >= most) most += 1;
  if (waiting.size) frame ||= requestAnimationFrame(turn);
}
