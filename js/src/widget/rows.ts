/** The list of rows, changed as a whole: the order of rows is the order of the recipe. */
import type { DirectionInfo, SteeringState } from "../protocol";
import { ownCells } from "./cells";

type Rows = readonly SteeringState[];

/** A direction that nobody has used yet, as the kernel lists it. */
export function freshRow(direction: DirectionInfo): SteeringState {
  return {
    direction: direction.name,
    mode: "add",
    coefficient: 0,
    cells: ownCells(direction),
    tokens: "all",
    enabled: true,
  };
}

/** Whether a row does anything. */
export const acts = (row: SteeringState) => row.enabled && (row.coefficient !== 0 || row.mode === "clamp");

/** What a row is called for the ear: where a direction has several, the place among all of them, too. */
export function rowName(rows: Rows, index: number): string {
  const name = rows[index]?.direction ?? "";
  const alone = rows.filter(({ direction }) => direction === name).length < 2;
  return alone ? name : `${name}, row ${index + 1} of ${rows.length}`;
}

/** A row with another place; the rest keep their order. */
export function moved(rows: Rows, from: number, to: number): SteeringState[] {
  const row = rows[from];
  if (!row) return [...rows];
  const rest = rows.filter((_, i) => i !== from);
  return [...rest.slice(0, to), row, ...rest.slice(to)];
}

export const without = (rows: Rows, index: number) => rows.filter((_, i) => i !== index);

/** A row twice. The second does nothing until it is ticked, for otherwise the push would be doubled at once. */
export const copied = (rows: Rows, index: number): SteeringState[] =>
  rows.flatMap((row, i) => (i === index ? [row, { ...row, enabled: false }] : [row]));
