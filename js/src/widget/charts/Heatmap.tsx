/**
 * A map of numbers: rows x columns of shaded cells, with text in them where there is room. Reached by Tab, walked with the
 * arrows, Home and End; Enter or a click chooses a cell. Labels stay in sight while a wide map scrolls inside itself.
 */
import { type Signal, useSignal, useSignalEffect } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import { move, type Place, pressed } from "../grid";
import { digits, look, type Scale, shade } from "./colour";
import { Legend } from "./Legend";

export interface HeatCell {
  /** Null: there is no number, either not yet, or for a `reason`. */
  value: number | null;
  /** Written into the cell. */
  text?: string;
  /** Why the cell is out of the running: it is hatched, and says so. */
  reason?: string;
}

const NARROW = 20; // px

interface Props {
  /** What the map shows, for the ear. */
  label: string;
  rows: { title: string; labels: readonly string[] };
  /** split: the column that a second group begins with, set apart by a rule. */
  columns: { title: string; labels: readonly string[]; split?: number };
  cell(row: number, column: number): HeatCell;
  scale: Scale;
  /** Everything about a cell, in a line, shown below the map and read out. The value, or the reason, by default. */
  detail?: (row: number, column: number) => string;
  /** A cell with a ring, like a winner, and what the ring means. */
  marked?: { place: Place; words: string } | undefined;
  /** What hatched cells are, in a word: "rejected". */
  rejected?: string;
  /** The cell that the panel is set to. */
  chosen?: Place | undefined;
  onChoose?: (row: number, column: number) => void;
  /**
   * Maps of one shape share it: the place that was pointed at or focused last in any of them, which each of them marks and
   * has its words of.
   */
  shared?: Signal<Place | null>;
  /** Without one, what stands around the map says what the shades mean. */
  legend?: boolean;
  /** The least width of a column in px, and the width of the rows' labels. */
  cellWidth?: number;
  /** The least width of a column in a narrow panel, where what is in a cell leaves room. */
  narrowWidth?: number;
  labelWidth?: number;
}

export function Heatmap(props: Props) {
  const { label, rows, columns, cell, scale, marked, chosen, onChoose, shared } = props;
  const [focus, setFocus] = useState<Place>(chosen ?? marked?.place ?? [0, 0]);
  const own = useSignal<Place | null>(null);
  const pointed = shared ?? own; // signals, so that a large map is not drawn again at every move
  const grid = useRef<HTMLDivElement>(null);
  const at: Place = [
    Math.min(focus[0], rows.labels.length - 1),
    Math.min(focus[1], columns.labels.length - 1),
  ];
  const point = (place: Place | null) => {
    if (String(pointed.peek()) === String(place) || (shared && !place)) return;
    pointed.value = place;
  };
  useSignalEffect(() => {
    const cell = shared?.value && grid.current?.querySelector(`[data-place="${shared.value}"]`);
    if (!cell) return;
    cell.setAttribute("data-pointed", "true");
    return () => cell.removeAttribute("data-pointed");
  });
  const words = (row: number, column: number) =>
    props.detail?.(row, column) ?? plain(scale, rows.labels[row], columns.labels[column], cell(row, column));
  const onKey = (event: KeyboardEvent) => {
    const from = placeOf(event.target) ?? at; // where the focus is, though keys may come faster than drawing
    const to = move(event.key, from, rows.labels.length, columns.labels.length);
    const go = (place: Place) => grid.current?.querySelector<HTMLElement>(`[data-place="${place}"]`)?.focus();
    pressed(event, to, go, onChoose && (() => onChoose(...from)));
  };
  useMore(grid);
  const cells = rows.labels.map((_, row) => columns.labels.map((_, column) => cell(row, column)));
  const all = cells.flat();
  const last = columns.labels.length - 1;
  const sparse = (props.cellWidth ?? NARROW) < NARROW && last > 9; // two digits do not fit over each column
  return (
    <figure class="sl-heat">
      <div
        ref={grid}
        class="sl-heat-grid"
        role="grid"
        aria-label={label}
        aria-readonly="true"
        data-choose={onChoose !== undefined}
        style={{
          "--columns": columns.labels.length,
          ...(props.cellWidth ? { "--width": `${props.cellWidth}px` } : {}),
          ...(props.narrowWidth ? { "--narrow": `${props.narrowWidth}px` } : {}),
          ...(props.labelWidth ? { "--labels": `${props.labelWidth}px` } : {}),
        }}
        onKeyDown={onKey}
        // not what comes under a resting pointer while keys scroll the map
        onPointerMove={(event) => point(placeOf(event.target))}
        onPointerLeave={() => point(null)}
        onFocusIn={(event) => {
          const place = placeOf(event.target);
          if (!place) return;
          setFocus(place);
          point(place);
        }}
        onFocusOut={() => point(null)}
        onClick={(event) => {
          const place = placeOf(event.target);
          if (place) onChoose?.(...place);
        }}
      >
        <div role="row" class="sl-heat-row sl-heat-head">
          <span role="columnheader" class="sl-heat-corner">
            {rows.title}
            {columns.title && (
              <>
                {" "}
                <span aria-hidden="true">\</span> {columns.title}
              </>
            )}
          </span>
          {columns.labels.map((name, i) => (
            <span
              key={i}
              role="columnheader"
              class="sl-heat-column"
              title={name}
              aria-label={name}
              data-sparse={sparse}
              data-split={i > 0 && i === columns.split}
            >
              {sparse && i !== last && (i % 4 || last - i < 2) ? "·" : name}
            </span>
          ))}
        </div>
        {cells.map((line, row) => (
          <div key={row} role="row" class="sl-heat-row">
            <span role="rowheader" class="sl-heat-label" title={rows.labels[row]}>
              {rows.labels[row]}
            </span>
            {line.map((one, column) => (
              <span
                key={column}
                role="gridcell"
                class="sl-heat-cell sl-shade"
                data-place={`${row},${column}`}
                data-split={column > 0 && column === columns.split}
                tabIndex={row === at[0] && column === at[1] ? 0 : -1}
                aria-label={words(row, column)}
                aria-selected={isAt(chosen, row, column)}
                data-marked={isAt(marked?.place, row, column)}
                data-rejected={one.reason !== undefined}
                {...worn(scale, one)}
              >
                {one.text}
              </span>
            ))}
          </div>
        ))}
      </div>
      <Say pointed={pointed} words={words} />
      {props.legend !== false && (
        <Legend
          scale={scale}
          below={all.some(({ value }) => value !== null && shade(scale, value).sign === "-")}
          marked={marked?.words}
          chosen={chosen && "set in the panel"}
          rejected={
            all.some(({ reason }) => reason !== undefined) ? (props.rejected ?? "left out") : undefined
          }
          empty={
            all.some(({ value, reason }) => value === null && reason === undefined)
              ? "not measured yet"
              : undefined
          }
        />
      )}
    </figure>
  );
}

/** Marks what has more to its right than is in sight. */
function useMore(scrolled: { current: HTMLElement | null }): void {
  useEffect(() => {
    const el = scrolled.current;
    if (!el) return;
    const look = () => {
      el.dataset.more = String(el.scrollLeft + el.clientWidth < el.scrollWidth - 1);
    };
    const watch = new ResizeObserver(look);
    for (const one of [el, ...el.children]) watch.observe(one);
    el.addEventListener("scroll", look, { passive: true });
    return () => {
      watch.disconnect();
      el.removeEventListener("scroll", look);
    };
  }, []);
}

function Say({
  pointed,
  words,
}: {
  pointed: Signal<Place | null>;
  words(row: number, column: number): string;
}) {
  return (
    <p class="sl-say" aria-hidden="true">
      {pointed.value ? words(...pointed.value) : " "}
    </p>
  );
}

function worn(scale: Scale, { value }: HeatCell): Record<string, unknown> {
  if (value === null) return { "data-empty": true };
  const { sign, ink, slight, depth } = look(scale, value);
  return { "data-sign": sign, "data-ink": ink, "data-slight": slight, style: { "--depth": depth } };
}

function plain(scale: Scale, row: string | undefined, column: string | undefined, one: HeatCell): string {
  const value = one.value === null ? "not measured yet" : `${scale.title} ${digits(scale, one.value)}`;
  return `${row}, ${column}: ${one.text ? `${one.text}, ` : ""}${one.reason ?? value}`;
}

const isAt = (place: Place | undefined, row: number, column: number) =>
  place !== undefined && place[0] === row && place[1] === column;

function placeOf(target: EventTarget | null): Place | null {
  const place = (target as Element | null)?.closest<HTMLElement>("[data-place]")?.dataset.place;
  if (!place) return null;
  const [row, column] = place.split(",").map(Number);
  return [row ?? 0, column ?? 0];
}
