/**
 * From numbers to shades. The colours themselves stand in css/charts.css, as the ends of a ramp that is mixed in OKLab: equal
 * steps of a number are equal steps to the eye, in lightness too, so that the order survives without any sense of hue.
 */
import { minus } from "../numbers";

export interface Scale {
  /** sequential: from `min`, pale, to `max`, deep. diverging: 0 is pale, either sign has a colour of its own. */
  kind: "sequential" | "diverging";
  min: number;
  max: number;
  /** What the number is, with its unit, as the legend says it. */
  title: string;
  format?(value: number): string;
}

/** A scale that covers these numbers; a diverging one reaches as far below 0 as above. */
export function scaleOf(
  values: Iterable<number | null>,
  title: string,
  kind: Scale["kind"] = "sequential",
  format?: Scale["format"],
): Scale {
  let min = Number.POSITIVE_INFINITY;
  let max = Number.NEGATIVE_INFINITY;
  for (const value of values) {
    if (value === null || !Number.isFinite(value)) continue;
    min = Math.min(min, value);
    max = Math.max(max, value);
  }
  if (min > max) [min, max] = [0, 1];
  if (kind === "diverging") {
    const reach = Math.max(Math.abs(min), Math.abs(max)) || 1;
    [min, max] = [-reach, reach];
  } else if (min === max) max = min + 1;
  return format ? { kind, min, max, title, format } : { kind, min, max, title };
}

export interface Shade {
  /** How deep, from 0 to 1. */
  depth: number;
  sign: "+" | "-";
}

export function shade({ kind, min, max }: Scale, value: number): Shade {
  if (kind === "diverging") {
    const reach = Math.max(Math.abs(min), Math.abs(max)) || 1;
    return { depth: Math.min(1, Math.abs(value) / reach), sign: value < 0 ? "-" : "+" };
  }
  return { depth: Math.max(0, Math.min(1, (value - min) / (max - min || 1))), sign: "+" };
}

/** From this depth on, text on a shade is written in the other ink: on the light theme's ramps, and on the dark one's. A test holds text to a contrast of 4.5 on every shade. */
export const DEEP = { light: 0.64, dark: 0.505 };

/** The ink that a depth takes: "plain" or "deep" in both themes, or "dark" where only the dark theme has it deep. */
export function ink(depth: number): "plain" | "dark" | "deep" {
  return depth >= DEEP.light ? "deep" : depth >= DEEP.dark ? "dark" : "plain";
}

/**
 * What a mark of the class `sl-shade` wears: `--depth`, `data-sign`, `data-ink` and `data-slight`, which css/charts.css makes
 * colours and lines of.
 */
export function look(
  scale: Scale,
  value: number,
): { sign: string; ink: string; slight: string; depth: string } {
  const { depth, sign } = shade(scale, value);
  return { sign, ink: ink(depth), slight: String(depth < 0.1), depth: `${(100 * depth).toFixed(1)}%` };
}

/** As many digits as tell values of a scale apart. */
export function digits(scale: Scale, value: number): string {
  if (scale.format) return scale.format(value);
  const span = scale.max - scale.min;
  const places = span >= 100 ? 0 : span >= 10 ? 1 : span >= 1 ? 2 : 3;
  return minus(value.toFixed(places));
}
