/**
 * The map of sites: a column per layer, a row per point, brushed with the mouse or the keyboard.
 *
 * Keys: arrows move, space turns a site on or off, shift with an arrow carries on what the last site was given, Home and End
 * go to the ends of a row. The heads of rows and columns are part of the grid and stand for all of theirs.
 */
import { useRef, useState } from "preact/hooks";
import type { DirectionInfo, Info } from "../protocol";
import { brush, type Cell, key, ownCells, words } from "./cells";
import { move, type Place, pressed } from "./grid";

interface Props {
  info: Info;
  direction: DirectionInfo | undefined;
  cells: Cell[];
  /** What is chosen, in words; said where nothing is pointed at. */
  summary: string;
  /** How strongly each site expresses the direction, from 0 to 1, in words too; null where that is not known. */
  strength?: ((cell: Cell) => { depth: number; words: string } | null) | undefined;
  /** The strengths are of an older prompt. */
  stale?: boolean;
  onChange(cells: Cell[]): void;
}

export function SitePicker({ info, direction, cells, summary, strength, stale, onChange }: Props) {
  const { points, n_layers: layers } = info;
  const [focus, setFocus] = useState<Place>([0, direction?.layer ?? 0]);
  const [pointed, setPointed] = useState<Place | null>(null);
  const painting = useRef(true);
  const grid = useRef<HTMLDivElement>(null);
  const chosen = new Set(cells.map(key));
  const own = new Set(ownCells(direction).map(key));
  const sparse = layers > 16; // every second or fourth number, where all would not fit

  const covered = ([row, column]: Place): Cell[] =>
    points
      .filter((_, r) => row < 0 || r === row)
      .flatMap((point) =>
        Array.from({ length: layers }, (_, layer): Cell => [layer, point]).filter(
          ([layer]) => column < 0 || layer === column,
        ),
      );
  const isOn = (place: Place) => covered(place).every((cell) => chosen.has(key(cell)));
  const paint = (place: Place, on: boolean) => {
    painting.current = on;
    onChange(brush(cells, covered(place), on));
  };
  const go = (place: Place) => {
    setFocus(place);
    grid.current?.querySelector<HTMLElement>(`[data-place="${place}"]`)?.focus();
  };
  const onKey = (event: KeyboardEvent) => {
    const to = move(event.key, focus, points.length, layers, true);
    const walk = (place: Place) => {
      go(place);
      if (event.shiftKey) paint(place, painting.current);
    };
    pressed(event, to, walk, () => paint(focus, !isOn(focus)));
  };
  const handlers = (place: Place) => ({
    "data-place": String(place),
    tabIndex: place[0] === focus[0] && place[1] === focus[1] ? 0 : -1,
    onFocus: () => {
      setFocus(place);
      setPointed(place);
    },
    onPointerDown: (event: PointerEvent) => {
      if (event.button !== 0) return;
      // a finger would keep the pointer on the cell that it touched first
      (event.currentTarget as Element).releasePointerCapture?.(event.pointerId);
      paint(place, !isOn(place));
    },
    onPointerEnter: (event: PointerEvent) => {
      setPointed(place);
      if (event.buttons & 1) paint(place, painting.current);
    },
  });
  const at = pointed && info.points[pointed[0]];
  const strong = pointed && at && pointed[1] >= 0 ? strength?.([pointed[1], at]) : null;
  const say = pointed ? describe(info, pointed) + (strong ? `; ${strong.words}` : "") : "";

  return (
    <div class="sl-picker">
      <div
        ref={grid}
        class="sl-grid"
        role="grid"
        aria-label="Layers and points"
        aria-multiselectable="true"
        style={{ "--layers": layers }}
        data-stale={stale}
        onKeyDown={onKey}
        onPointerLeave={() => setPointed(null)}
        onFocusOut={() => setPointed(null)}
      >
        <div role="row" class="sl-grid-row">
          <span role="columnheader" class="sl-corner">
            layer
          </span>
          {Array.from({ length: layers }, (_, layer) => (
            <span
              key={layer}
              role="columnheader"
              class="sl-layer"
              aria-label={`Layer ${layer}, every point`}
              {...handlers([-1, layer])}
            >
              {sparse && layer % 4 !== 0 && layer !== layers - 1 ? "·" : layer}
            </span>
          ))}
        </div>
        {points.map((point, row) => (
          <div key={point} role="row" class="sl-grid-row">
            <span
              role="rowheader"
              class="sl-point"
              aria-label={`${point}, every layer`}
              {...handlers([row, -1])}
            >
              {point}
            </span>
            {Array.from({ length: layers }, (_, layer) => {
              const id = key([layer, point]);
              const strong = strength?.([layer, point]);
              return (
                <span
                  key={id}
                  role="gridcell"
                  class="sl-cell"
                  data-own={own.has(id)}
                  aria-selected={chosen.has(id)}
                  aria-label={`${id}: ${words(info, [layer, point])}${own.has(id) ? " (found here)" : ""}${strong ? `; ${strong.words}` : ""}`}
                  style={strong ? { "--strength": `${Math.round(100 * strong.depth)}%` } : undefined}
                  {...handlers([row, layer])}
                />
              );
            })}
          </div>
        ))}
      </div>
      <p class="sl-say" aria-hidden={pointed !== null}>
        {say || summary}
        {!say && strength && <span class="sl-shaded">shade: how strongly the prompt expresses it</span>}
      </p>
    </div>
  );
}

function describe(info: Info, [row, column]: Place): string {
  const point = info.points[row];
  if (point === undefined) return `layer ${column}: every point`;
  if (column < 0) return `${point}: every layer`;
  return `${key([column, point])}: ${words(info, [column, point])}`;
}
