/**
 * Layers x tokens: what each layer would say next, or how far each token lies along a direction; under the baseline and
 * steered, side by side, or their difference. It follows the preview: a run that has ended is read while the tab is open.
 */

import { type Signal, useSignal } from "@preact/signals";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { LensAnswer } from "../protocol";
import { able } from "./able";
import { Heatmap } from "./charts/Heatmap";
import { Legend } from "./charts/Legend";
import type { Place } from "./grid";
import { Likely } from "./Likely";
import { cellOf, type LensMap, nextTokens, points, projected, type Under } from "./lensmap";
import { Segmented } from "./Segmented";
import type { TabProps } from "./tablist";
import { spelled } from "./template";
import { Unanswered } from "./Unanswered";
import { useAsk } from "./useAsk";
import { Working } from "./Working";

const WINDOW = 48; // tokens at a time, as many as the kernel reads for one question

const VIEWS = [
  { value: "next", label: "likeliest token", title: "What each layer would say next: the logit lens" },
  { value: "projection", title: "How far each token lies along a direction" },
] as const;
type Side = "both" | Under;
const SIDES = [
  { value: "both", label: "side by side", title: "The text read without steering and, beside it, steered" },
  { value: "difference", title: "What steering changed" },
  { value: "baseline", title: "Without steering" },
  { value: "steered", title: "Under the recipe with which the text is read" },
] as const;
const TITLES = { baseline: "Baseline", steered: "Steered", difference: "Difference" };
const TEXTS: Record<string, string> = { control: "random control" };

export function Lens({ store, open }: TabProps) {
  const { stream, details } = store;
  const [view, setView] = useState<"next" | "projection">("next");
  const [side, setSide] = useState<Side>("both");
  const [chosen, setChosen] = useState("steered");
  const [start, setStart] = useState(0);
  const [direction, setDirection] = useState("");
  const [goal, setGoal] = useState<number | null>(null); // the column that the focus is to go to
  const root = useRef<HTMLDivElement>(null);
  const texts = stream.panes.value.filter((pane) => pane.length.value > 0).map(({ id }) => id);
  const text = texts.includes(chosen) ? chosen : (texts[0] ?? "");
  const run = stream.run.value;
  const look = open && details.ready && text !== "" && store.connection.value !== "gone";
  const { asked, answer, again } = useAsk(
    store,
    look && view === "next" ? { kind: "lens", run, pane: text, start } : null,
  );
  const projecting = look && view === "projection";
  useEffect(() => {
    if (projecting) details.want(text);
  }, [projecting, text, run]);
  const reading = view === "projection" ? details.question(text) : asked;
  const kept = useRef(details.of(text)); // stands, marked, until there is a newer one
  kept.current = details.of(text) ?? kept.current;
  const projections = kept.current;
  const names = projections?.directions.map(({ name }) => name) ?? [];
  const on = names.includes(direction) ? direction : (names[0] ?? "");
  const source = view === "next" ? answer : projections;
  const maps = useMemo<readonly LensMap[]>(() => {
    const sides: readonly Under[] = !source?.steered
      ? ["baseline"]
      : side === "both"
        ? ["baseline", "steered"]
        : [side];
    if (view === "next") return answer ? sides.map((under) => nextTokens(answer, under)) : [];
    if (!projections || !names.length) return [];
    return sides.map((under) => projected(projections, on, under, start, WINDOW));
  }, [view, answer, projections, side, on, start]);
  const map = maps[0];
  const ofText = source?.run === run && source.pane === text && details.ready;
  const current = ofText && map?.start === start;

  // a token was chosen in the preview
  const place = details.at.value;
  useEffect(() => {
    if (!place || !open) return;
    details.at.value = null;
    const column = stream.promptTokens.peek().length + place.token;
    setGoal(column);
    setChosen(place.pane);
    details.again(place.pane);
    if (column < start || column >= start + WINDOW) setStart(Math.max(0, column - WINDOW / 2));
  }, [place, open]);
  // the text is shorter than it was: the kernel reads its last token instead
  useEffect(() => {
    if (ofText && map && start > 0 && start >= map.total - 1) setStart(Math.max(0, map.total - WINDOW));
  }, [ofText, map]);
  useEffect(() => {
    if (goal === null || !current || !map) return;
    const column = Math.min(goal, map.total - 1) - map.start;
    setGoal(null);
    const cells = root.current?.querySelectorAll<HTMLElement>(`[data-place="0,${column}"]`) ?? [];
    const cell = cells[text === "baseline" ? 0 : cells.length - 1]; // in the map of the text that it was chosen in
    cell?.focus();
    cell?.scrollIntoView({ block: "nearest", inline: "center" });
  }, [goal, current, map]);

  if (text === "") return <p class="sl-empty">Run a prompt: its texts are looked into here.</p>;
  const waiting = !["failed", "cancelled"].includes(reading?.status.value ?? "");
  return (
    <div ref={root} class="sl-lens">
      <div class="sl-bar">
        <Segmented label="What is shown" options={VIEWS} value={view} onChange={(to) => setView(to)} />
        <Segmented label="Which maps" options={SIDES} value={side} onChange={(to) => setSide(to)} />
        <Choice label="text" options={texts} names={TEXTS} value={text} onChange={setChosen} />
        {view === "projection" && names.length > 1 && (
          <Choice label="direction" options={names} value={on} onChange={setDirection} />
        )}
        {map && map.total > WINDOW && <Pages map={map} start={start} onTurn={setStart} />}
      </div>
      <Unanswered asked={reading} again={view === "projection" ? () => details.again(text) : again} />
      <Working asked={reading} what="Reading the layers" />
      {source && !source.steered && current && side !== "baseline" && (
        <p class="sl-soft">Nothing is steered: this is the baseline.</p>
      )}
      {view === "projection" && projections && names.length === 0 && (
        <p class="sl-empty">This lab has no direction yet to project on.</p>
      )}
      <div role="status">
        {map && !current && waiting && (
          <p class="sl-stale-words">
            {details.ready ? "Being read anew." : "Of an older text: it is read anew when the run has ended."}
          </p>
        )}
      </div>
      {map ? (
        <div data-stale={!current}>
          <Maps maps={maps} answer={view === "next" ? answer : null} />
        </div>
      ) : (
        !reading && <p class="sl-empty">The layers are read as soon as the run has ended.</p>
      )}
    </div>
  );
}

interface MapsProps {
  /** One, or two of one shape. */
  maps: readonly LensMap[];
  /** What the five likeliest of a cell are taken from. */
  answer: LensAnswer | null;
}

/** The maps side by side: they point at one cell, and scroll as one. */
function Maps({ maps, answer }: MapsProps) {
  const pointed = useSignal<Place | null>(null);
  const root = useRef<HTMLDivElement>(null);
  const alone = maps.length === 1;
  const scale = maps[0]?.scale;
  const follow = ({ target }: Event) => {
    if (!(target instanceof HTMLElement)) return;
    for (const grid of root.current?.querySelectorAll(".sl-heat-grid") ?? []) {
      // fractions of a pixel are rounded: without this one would follow the other for ever
      if (Math.abs(grid.scrollLeft - target.scrollLeft) > 1) grid.scrollLeft = target.scrollLeft;
      if (Math.abs(grid.scrollTop - target.scrollTop) > 1) grid.scrollTop = target.scrollTop;
    }
  };
  return (
    <>
      <div ref={root} class="sl-maps" data-listed={answer !== null} onScrollCapture={follow}>
        {maps.map((map) => (
          <section key={map.under} data-under={map.under} aria-label={TITLES[map.under]}>
            {!alone && <h4>{TITLES[map.under]}</h4>}
            <LensGrid map={map} wide={answer !== null} pointed={pointed} alone={alone} />
          </section>
        ))}
      </div>
      {!alone && scale && <Legend scale={scale} below={scale.kind === "diverging"} />}
      {answer && <CellFacts answer={answer} pointed={pointed} />}
    </>
  );
}

interface GridProps {
  map: LensMap;
  /** Whether there are words in its cells. */
  wide: boolean;
  pointed: Signal<Place | null>;
  alone: boolean;
}

function LensGrid({ map, wide, pointed, alone }: GridProps) {
  return useMemo(() => {
    const layer = (row: number) => map.layers - 1 - row;
    const split = map.n_prompt - map.start;
    return (
      <Heatmap
        label={`${map.scale.title}, layers by tokens, ${map.under}`}
        rows={{ title: "layer", labels: Array.from({ length: map.layers }, (_, row) => String(layer(row))) }}
        columns={{
          title: alone ? "token" : "",
          labels: map.tokens.map(spelled),
          ...(split > 0 && split < map.tokens.length ? { split } : {}),
        }}
        cell={(row, column) => map.cell(layer(row), column)}
        detail={(row, column) => map.detail(layer(row), column)}
        scale={map.scale}
        shared={pointed}
        legend={alone}
        cellWidth={wide ? (alone ? 68 : 58) : 34}
        labelWidth={alone ? 84 : 38}
      />
    );
  }, [map]);
}

/** The five likeliest of the cell that is pointed at. Its own label says them to the ear. */
function CellFacts({ answer, pointed }: { answer: LensAnswer; pointed: Signal<Place | null> }) {
  const [row, column] = pointed.value ?? [0, -1];
  const layer = answer.kl.length - 1 - row;
  const token = answer.tokens[column];
  if (token === undefined)
    return <p class="sl-soft">Point at a cell, or walk with the arrows, for its five likeliest tokens.</p>;
  const { baseline, steered, gained, kl } = answer;
  const divergence = kl[layer]?.[column];
  return (
    <div class="sl-cellfacts" aria-hidden="true">
      <p>
        {`Layer ${layer}, after`}
        <span class="sl-token">{spelled(token)}</span>
        {steered && divergence !== null && divergence !== undefined && (
          <span class="sl-soft">{`KL ${divergence.toFixed(3)}`}</span>
        )}
      </p>
      <div class="sl-card-sides">
        <Likely title="Baseline" tokens={cellOf(answer, baseline, layer, column)} />
        {steered && <Likely title="Steered" tokens={cellOf(answer, steered, layer, column)} />}
        {gained && (
          <Likely
            title="Rose most"
            tokens={cellOf(answer, gained, layer, column).filter(([, by]) => by >= 0.001)}
            format={points}
            empty="none by 0.1 points"
          />
        )}
      </div>
    </div>
  );
}

interface ChoiceProps {
  label: string;
  options: readonly string[];
  names?: Record<string, string>;
  value: string;
  onChange(value: string): void;
}

function Choice({ label, options, names = {}, value, onChange }: ChoiceProps) {
  return (
    <label class="sl-pickone">
      {label}
      <select value={value} onChange={(event) => onChange(event.currentTarget.value)}>
        {options.map((option) => (
          <option key={option} value={option}>
            {names[option] ?? option}
          </option>
        ))}
      </select>
    </label>
  );
}

/** A long text, a window at a time. */
function Pages({ map, start, onTurn }: { map: LensMap; start: number; onTurn(start: number): void }) {
  const turn = (by: number) => onTurn(Math.max(0, Math.min(start + by, map.total - WINDOW)));
  return (
    <div class="sl-pages" role="group" aria-label="Part of the text">
      <button type="button" class="sl-button" {...able(start > 0, () => turn(-WINDOW))}>
        Earlier
      </button>
      <span class="sl-soft">{`${start + 1}–${Math.min(start + WINDOW, map.total)} of ${map.total} tokens`}</span>
      <button type="button" class="sl-button" {...able(start + WINDOW < map.total, () => turn(WINDOW))}>
        Later
      </button>
    </div>
  );
}
