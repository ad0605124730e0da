/**
 * Points by two numbers, like what a recipe does against what it costs. Reached by Tab, walked with the arrows from left to
 * right; Enter or a click chooses a point. Kinds of points differ in shape as well as in colour.
 */
import { useEffect, useRef, useState } from "preact/hooks";
import { pressed, step } from "../grid";
import { ticks } from "./axis";

export interface ScatterPoint {
  x: number;
  y: number;
  /** Everything about it, in a line, shown below and read out. */
  label: string;
  kind?: "plain" | "marked" | "faint";
}

interface Axis {
  title: string;
  /** Where the axis begins and ends at the least. */
  from?: number;
  to?: number;
  format?: (value: number) => string;
}

interface Props {
  label: string;
  x: Axis;
  y: Axis;
  points: readonly ScatterPoint[];
  /** What each kind that occurs is, for the legend. */
  kinds?: Partial<Record<NonNullable<ScatterPoint["kind"]>, string>>;
  /** Joins points by their places in `points`, like a frontier. */
  line?: readonly number[];
  chosen?: number;
  onChoose?: (index: number) => void;
}

const HEIGHT = 280;
const HALF_CHARACTER = 3.5; // px: the last number of an axis ends where the drawing ends
const MANY = 120; // points, from where those that do not matter most are drawn smaller, to lie apart
const EDGE = { left: 52, right: 14, top: 12, bottom: 42 };

export function Scatter({ label, x, y, points, kinds, line, chosen, onChoose }: Props) {
  const figure = useRef<HTMLElement>(null);
  const width = useWidth(figure);
  const [focus, setFocus] = useState(0);
  const [pointed, setPointed] = useState<number | null>(null);
  const xs = ticksOf(
    x,
    points.map((p) => p.x),
  );
  const ys = ticksOf(
    y,
    points.map((p) => p.y),
  );
  const across = (value: number) => EDGE.left + part(xs, value) * (width - EDGE.left - EDGE.right);
  const up = (value: number) => HEIGHT - EDGE.bottom - part(ys, value) * (HEIGHT - EDGE.top - EDGE.bottom);
  const order = points.map((_, i) => i).sort((a, b) => (points[a]?.x ?? 0) - (points[b]?.x ?? 0));
  const at = Math.min(focus, points.length - 1);
  const onKey = (event: KeyboardEvent) => {
    const from = Number((event.target as Element).closest<SVGElement>("[data-point]")?.dataset.point ?? at);
    const now = order.indexOf(from);
    const go = (to: number) =>
      figure.current?.querySelector<SVGElement>(`[data-point="${order[to]}"]`)?.focus();
    pressed(event, step(event.key, now, order.length), go, onChoose && (() => onChoose(from)));
  };
  return (
    <figure ref={figure} class="sl-scatter">
      <div
        class="sl-plot"
        data-many={points.length > MANY}
        role="listbox"
        aria-label={label}
        onKeyDown={onKey}
      >
        <svg width={width} height={HEIGHT} aria-hidden="true">
          {xs.map((value) => (
            <g key={value} class="sl-axis">
              <line x1={across(value)} x2={across(value)} y1={EDGE.top} y2={HEIGHT - EDGE.bottom} />
              <text
                x={Math.min(across(value), width - HALF_CHARACTER * (x.format ?? String)(value).length)}
                y={HEIGHT - EDGE.bottom + 16}
                text-anchor="middle"
              >
                {(x.format ?? String)(value)}
              </text>
            </g>
          ))}
          {ys.map((value) => (
            <g key={value} class="sl-axis">
              <line x1={EDGE.left} x2={width - EDGE.right} y1={up(value)} y2={up(value)} />
              <text x={EDGE.left - 6} y={up(value) + 4} text-anchor="end">
                {(y.format ?? String)(value)}
              </text>
            </g>
          ))}
          <text
            class="sl-axis-title"
            x={(EDGE.left + width - EDGE.right) / 2}
            y={HEIGHT - 6}
            text-anchor="middle"
          >
            {x.title}
          </text>
          <text
            class="sl-axis-title"
            transform={`translate(12 ${(EDGE.top + HEIGHT - EDGE.bottom) / 2}) rotate(-90)`}
            text-anchor="middle"
          >
            {y.title}
          </text>
          {line && (
            <polyline
              class="sl-frontier"
              points={line.map((i) => `${across(points[i]?.x ?? 0)},${up(points[i]?.y ?? 0)}`).join(" ")}
            />
          )}
        </svg>
        <svg width={width} height={HEIGHT} role="presentation">
          {points.map((point, i) => (
            <g
              key={i}
              role="option"
              class="sl-dot-at"
              data-point={i}
              data-kind={point.kind ?? "plain"}
              tabindex={i === at ? 0 : -1} // of SVG, where names of attributes are as they are written
              aria-label={point.label}
              aria-selected={i === chosen}
              transform={`translate(${across(point.x)} ${up(point.y)})`}
              onFocus={() => {
                setFocus(i);
                setPointed(i);
              }}
              onBlur={() => setPointed(null)}
              onPointerEnter={() => setPointed(i)}
              onPointerLeave={() => setPointed(null)}
              onClick={() => onChoose?.(i)}
            >
              <circle class="sl-reach" r="11" />
              <path d={SHAPES[point.kind ?? "plain"]} />
            </g>
          ))}
        </svg>
      </div>
      <p class="sl-say" aria-hidden="true">
        {(pointed === null ? undefined : points[pointed])?.label ?? " "}
      </p>
      {kinds && (
        <div class="sl-legend">
          {Object.entries(kinds).map(([kind, words]) => (
            <span key={kind} class="sl-legend-key">
              <svg
                class="sl-dot-at"
                data-kind={kind}
                width="16"
                height="16"
                viewBox="-8 -8 16 16"
                aria-hidden="true"
              >
                <path d={SHAPES[kind as keyof typeof SHAPES]} />
              </svg>
              {words}
            </span>
          ))}
        </div>
      )}
    </figure>
  );
}

const SHAPES = {
  plain: "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0",
  marked: "M0 -7.5 7.5 0 0 7.5 -7.5 0Z",
  faint: "M-4 -4H4V4H-4Z",
};

function ticksOf({ from, to }: Axis, values: number[]): number[] {
  const real = values.filter(Number.isFinite);
  const all = [...real, ...(from === undefined ? [] : [from]), ...(to === undefined ? [] : [to])];
  return all.length ? ticks(Math.min(...all), Math.max(...all)) : ticks(0, 1);
}

function part(marks: readonly number[], value: number): number {
  const [first, last] = [marks[0] ?? 0, marks.at(-1) ?? 1];
  return last > first ? (value - first) / (last - first) : 0.5;
}

/** The width in px that an element has, so that text in a drawing is never scaled. */
function useWidth(element: { current: HTMLElement | null }): number {
  const [width, setWidth] = useState(560);
  useEffect(() => {
    if (!element.current) return;
    const watch = new ResizeObserver(([entry]) => {
      if (entry && entry.contentRect.width > 0) setWidth(entry.contentRect.width);
    });
    watch.observe(element.current);
    return () => watch.disconnect();
  }, []);
  return width;
}
