/** How far a slider goes, and what its number means. */
import type { DirectionInfo, SteeringState } from "../protocol";

export interface Range {
  min: number;
  max: number;
  step: number;
}

const NICE = [1, 2, 3, 4, 5, 6, 8, 10];
const UNKNOWN = 4; // reaches well past 1, the paper's convention, where no residual norm gives a scale

/** The next number upwards that is pleasant to read: 1, 2, 3, 4, 5, 6, 8 times a power of ten. */
export function niceCeil(x: number): number {
  const power = 10 ** Math.floor(Math.log10(x));
  const factor = NICE.find((n) => n >= x / power - 1e-9) ?? 10;
  return factor * power;
}

/** Addition and clamping reach 1.5 times the residual norm either way; a number typed beyond that widens the slider. */
export function range({ mode, coefficient }: SteeringState, direction: DirectionInfo | undefined): Range {
  const size = Math.abs(coefficient);
  if (mode === "ablate") return { min: Math.min(0, coefficient), max: Math.max(1, coefficient), step: 0.05 };
  const unit = mode === "clamp" ? 1 : direction?.norm;
  const reach = direction?.residual_norm && unit ? niceCeil((1.5 * direction.residual_norm) / unit) : UNKNOWN;
  const max = Math.max(reach, size > reach ? niceCeil(size) : 0);
  return { min: -max, max, step: niceStep(max / 80) };
}

/** The nearest of 1, 2 and 5 times a power of ten, so that 0.5, 1 and 2 lie on the slider. */
export function niceStep(x: number): number {
  const power = 10 ** Math.floor(Math.log10(x));
  const factor = x / power < 1.5 ? 1 : x / power < 3 ? 2 : x / power < 7 ? 5 : 10;
  return Number((factor * power).toPrecision(1));
}

/** A slider's number without the crumbs of binary fractions, and 0 exactly 0. */
export function tidy(value: number, step: number): number {
  return Math.abs(value) < step / 2 ? 0 : Number(value.toPrecision(6));
}

/** The push, or the value that is set, relative to the stream at its site, where that is known. */
export function relative(row: SteeringState, direction: DirectionInfo | undefined): number | null {
  if (row.mode === "ablate" || !direction?.residual_norm) return null;
  return (row.coefficient * (row.mode === "clamp" ? 1 : direction.norm)) / direction.residual_norm;
}

/** A number with its sign (a real minus) and as many digits as a person reads. */
export function signed(x: number, digits = 2): string {
  const text = Math.abs(x).toFixed(digits);
  return Number(text) === 0 ? text : `${x < 0 ? "−" : "+"}${text}`;
}

/** What the slider says beside its number. */
export function meaning(row: SteeringState, direction: DirectionInfo | undefined): string {
  if (row.mode === "ablate") return `${Math.round(row.coefficient * 100)} % removed`;
  const push = relative(row, direction);
  if (push === null) return row.mode === "clamp" ? "along the unit vector" : "× the vector";
  return `${row.mode === "clamp" ? "= " : ""}${signed(push)} × ‖resid‖`;
}

/** The raw numbers behind it. */
export function raw(row: SteeringState, direction: DirectionInfo | undefined): string {
  if (!direction) return "";
  const { norm, residual_norm: stream } = direction;
  const times =
    row.mode === "add"
      ? `${Number(row.coefficient.toFixed(3))} × |v| ${norm.toPrecision(4)}`
      : `|v| ${norm.toPrecision(4)}`;
  return stream ? `${times}; mean ‖resid‖ at its site ${stream.toPrecision(4)}` : times;
}

/** The same for the ear. */
export function spoken(row: SteeringState, direction: DirectionInfo | undefined): string {
  const push = relative(row, direction);
  const number = String(Number(row.coefficient.toFixed(3)));
  if (row.mode === "ablate") return `${Math.round(row.coefficient * 100)} percent removed`;
  return push === null ? number : `${number}, ${push.toFixed(2)} times the residual norm`;
}
