/** Moves inside a grid or a row by keys, for every map and chart of the panel. */

/** A place in a grid: row -1 holds the heads of the columns, column -1 those of the rows. */
export type Place = readonly [row: number, column: number];

/** Where a key leads; null for a key that leads nowhere. With `heads`, the heads are part of the grid, but not its corner. */
export function move(
  key: string,
  [row, column]: Place,
  rows: number,
  columns: number,
  heads = false,
): Place | null {
  const moves: Record<string, Place> = {
    ArrowLeft: [row, column - 1],
    ArrowRight: [row, column + 1],
    ArrowUp: [row - 1, column],
    ArrowDown: [row + 1, column],
    Home: [row, 0],
    End: [row, columns - 1],
  };
  const to = moves[key];
  if (!to) return null;
  const least = heads ? -1 : 0;
  const clamp = (x: number, size: number) => Math.max(least, Math.min(size - 1, x));
  const place: Place = [clamp(to[0], rows), clamp(to[1], columns)];
  return place[0] < 0 && place[1] < 0 ? [row, column] : place; // the corner stands for nothing
}

/** Where a key leads among `n` things in a row: up and down are left and right there. */
export function step(key: string, from: number, n: number): number | null {
  const along = { ArrowUp: "ArrowLeft", ArrowDown: "ArrowRight" }[key] ?? key;
  return move(along, [0, from], 1, n)?.[1] ?? null;
}

/** A key that leads somewhere, `to`, goes there; Enter and space choose; every other key is the host's. */
export function pressed<T>(
  event: KeyboardEvent,
  to: T | null,
  go: (to: T) => void,
  choose?: (() => void) | undefined,
): void {
  const chooses = choose && (event.key === "Enter" || event.key === " ");
  if (to === null && !chooses) return;
  event.preventDefault();
  if (to !== null) go(to);
  else choose?.();
}
