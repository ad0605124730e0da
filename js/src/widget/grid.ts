/** Moves inside a grid by keys, for every map of the panel. */

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
