/** Two numbers for each layer as bars from a common foot: a small one in front of a large one that gives it a scale. */
import { useRef, useState } from "preact/hooks";
import { pressed, step } from "../grid";
import { digits, scaleOf } from "./colour";

interface Props {
  /** What is shown, for the ear. */
  label: string;
  /** By layer; null where there is none. */
  front: { title: string; values: readonly (number | null)[] };
  back: { title: string; values: readonly (number | null)[] };
  /** A layer with a ring. */
  marked?: number | undefined;
}

export function Bars({ label, front, back, marked }: Props) {
  const root = useRef<HTMLDivElement>(null);
  const [focus, setFocus] = useState(marked ?? 0);
  const [pointed, setPointed] = useState<number | null>(null);
  const n = front.values.length;
  const at = Math.min(focus, n - 1);
  const scale = scaleOf([0, ...front.values, ...back.values], "norm");
  const share = (value: number | null | undefined) => `${(100 * (value ?? 0)) / scale.max}%`;
  const words = (layer: number) => {
    const own = front.values[layer] ?? null;
    const large = back.values[layer] ?? null;
    if (own === null) return `layer ${layer}: no direction, the two sides do not differ`;
    const part = large ? `, ${(own / large).toFixed(2)} of ${back.title} ${digits(scale, large)}` : "";
    return `layer ${layer}: ${front.title} ${digits(scale, own)}${part}`;
  };
  const onKey = (event: KeyboardEvent) => {
    const from = Number((event.target as HTMLElement).dataset.layer ?? at); // keys may come faster than drawing
    pressed(event, step(event.key, from, n), (to) =>
      root.current?.querySelector<HTMLElement>(`[data-layer="${to}"]`)?.focus(),
    );
  };
  return (
    <figure class="sl-bars">
      <div
        ref={root}
        class="sl-bars-plot"
        role="listbox"
        aria-label={label}
        aria-orientation="horizontal"
        onKeyDown={onKey}
        onPointerLeave={() => setPointed(null)}
        onFocusOut={() => setPointed(null)}
      >
        {front.values.map((value, layer) => (
          <div
            key={layer}
            role="option"
            class="sl-bars-layer"
            aria-selected={layer === marked}
            aria-label={words(layer)}
            data-layer={layer}
            tabIndex={layer === at ? 0 : -1}
            onFocus={() => {
              setFocus(layer);
              setPointed(layer);
            }}
            onPointerEnter={() => setPointed(layer)}
          >
            <span class="sl-bars-column" aria-hidden="true">
              <span class="sl-bar-back" style={{ height: share(back.values[layer]) }} />
              <span class="sl-bar-front" style={{ height: share(value) }} />
            </span>
            <span class="sl-bars-name" aria-hidden="true">
              {n > 16 && layer % 4 && layer !== n - 1 ? "·" : layer}
            </span>
          </div>
        ))}
      </div>
      <p class="sl-say" aria-hidden="true">
        {pointed === null ? " " : words(pointed)}
      </p>
      <div class="sl-legend">
        <span class="sl-legend-key">
          <span class="sl-swatch sl-bar-front" aria-hidden="true" />
          {front.title}
        </span>
        <span class="sl-legend-key">
          <span class="sl-swatch sl-bar-back" aria-hidden="true" />
          {back.title}
        </span>
        <span>{`up to ${digits(scale, scale.max)}, by layer`}</span>
      </div>
    </figure>
  );
}
