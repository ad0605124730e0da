/** Round numbers along an axis. */
import { niceStep } from "../scale";

/** About `n` round numbers that cover `min` to `max`, ends included. */
export function ticks(min: number, max: number, n = 5): number[] {
  if (!(max > min)) return [min];
  const step = niceStep((max - min) / n);
  const first = Math.floor(min / step + 1e-9);
  const last = Math.ceil(max / step - 1e-9);
  return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}
