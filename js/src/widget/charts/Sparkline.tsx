/** Numbers by layer as small lines over a common zero. What they say stands beside it in words. */
interface Props {
  /** Each a line; the last one is drawn in the accent colour, on top. */
  lines: readonly (readonly number[])[];
  /** The layer that is marked. */
  marked: number;
}

const WIDTH = 120;
const HEIGHT = 26;
const EDGE = 3;

export function Sparkline({ lines, marked }: Props) {
  const all = lines.flat();
  const reach = Math.max(0.05, ...all.map(Math.abs));
  const n = Math.max(...lines.map((line) => line.length));
  const x = (i: number) => EDGE + (n > 1 ? (i / (n - 1)) * (WIDTH - 2 * EDGE) : 0);
  const y = (value: number) => HEIGHT / 2 - (value / reach) * (HEIGHT / 2 - EDGE);
  const last = lines.at(-1) ?? [];
  return (
    <svg
      class="sl-spark"
      width={WIDTH}
      height={HEIGHT}
      viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
      aria-hidden="true"
      focusable="false"
    >
      <line class="sl-spark-zero" x1={EDGE} x2={WIDTH - EDGE} y1={HEIGHT / 2} y2={HEIGHT / 2} />
      {lines.map((line, i) => (
        <polyline
          key={i}
          class={i === lines.length - 1 ? "sl-spark-line" : "sl-spark-before"}
          points={line.map((value, layer) => `${x(layer).toFixed(1)},${y(value).toFixed(1)}`).join(" ")}
        />
      ))}
      {last[marked] !== undefined && <circle cx={x(marked)} cy={y(last[marked])} r="2.5" />}
    </svg>
  );
}
