/**
 * Layers x tokens: what each layer would say next, or how far each token lies along a direction; under the baseline, steered,
 * and their difference. It follows the preview: a run that has ended is read while the tab is open.
 */

import { type Signal, useSignal } from "@preact/signals";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { LensAnswer } from "../protocol";
import { able } from "./able";
import { Heatmap } from "./charts/Heatmap";
import { Failed } from "./Failed";
import type { Place } from "./grid";
import { Likely } from "./Likely";
import { cellOf, type LensMap, nextTokens, points, projected, type Under } from "./lensmap";
import { Segmented } from "./Segmented";
import type { TabProps } from "./tablist";
import { spelled } from "./template";
import { useAsk } from "./useAsk";
import { Working } from "./Working";

const WINDOW = 48; // tokens at a time, as many as the kernel reads for one question

const VIEWS = [
  { value: "next", label: "likeliest token", title: "What each layer would say next: the logit lens" },
  { value: "projection", title: "How far each token lies along a direction" },
] as const;
const UNDER = [
  { value: "baseline", title: "Without steering" },
  { value: "steered", title: "Under the recipe with which the text is read" },
  { value: "difference", title: "What steering changed" },
] as const;
const TEXTS: Record<string, string> = { control: "random control" };

export function Lens({ store, open }: TabProps) {
  const { stream, details } = store;
  const [view, setView] = useState<"next" | "projection">("next");
  const [under, setUnder] = useState<Under>("steered");
  const [chosen, setChosen] = useState("steered");
  const [start, setStart] = useState(0);
  const [direction, setDirection] = useState("");
  const goal = useRef<number | null>(null); // the column that the focus is to go to
  const root = useRef<HTMLDivElement>(null);
  const texts = stream.panes.value.filter((pane) => pane.length.value > 0).map(({ id }) => id);
  const text = texts.includes(chosen) ? chosen : (texts[0] ?? "");
  const run = stream.run.value;
  const look = open && details.ready && text !== "" && store.connection.value !== "gone";
  const { asked, answer } = useAsk(
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
  const map = useMemo<LensMap | null>(() => {
    if (view === "next") return answer && nextTokens(answer, under);
    return projections && names.length ? projected(projections, on, under, start, WINDOW) : null;
  }, [view, answer, projections, under, on, start]);
  const ofText = source?.run === run && source.pane === text && details.ready;
  const current = ofText && map?.start === start;

  // a token was chosen in the preview
  const place = details.at.value;
  useEffect(() => {
    if (!place || !open) return;
    details.at.value = null;
    const column = stream.promptTokens.peek().length + place.token;
    goal.current = column;
    setChosen(place.pane);
    if (column < start || column >= start + WINDOW) setStart(Math.max(0, column - WINDOW / 2));
  }, [place, open]);
  // the text is shorter than it was: the kernel reads its last token instead
  useEffect(() => {
    if (ofText && map && start > 0 && start >= map.total - 1) setStart(Math.max(0, map.total - WINDOW));
  }, [ofText, map]);
  useEffect(() => {
    if (goal.current === null || !current || !map) return;
    const column = Math.min(goal.current, map.total - 1) - map.start;
    goal.current = null;
    const cell = root.current?.querySelector<HTMLElement>(`[data-place="0,${column}"]`);
    cell?.focus();
    cell?.scrollIntoView({ block: "nearest", inline: "center" });
  }, [current, map]);

  if (text === "") return <p class="sl-empty">Run a prompt: its texts are looked into here.</p>;
  const error = reading?.error.value;
  return (
    <div ref={root} class="sl-lens">
      <div class="sl-bar">
        <Segmented label="What is shown" options={VIEWS} value={view} onChange={(to) => setView(to)} />
        <Segmented label="Read under" options={UNDER} value={under} onChange={(to) => setUnder(to)} />
        <Choice label="text" options={texts} names={TEXTS} value={text} onChange={setChosen} />
        {view === "projection" && names.length > 1 && (
          <Choice label="direction" options={names} value={on} onChange={setDirection} />
        )}
        {map && map.total > WINDOW && <Pages map={map} start={start} onTurn={setStart} />}
      </div>
      <Failed error={error} />
      <Working asked={reading} what="Reading the layers" />
      {source && !source.steered && current && under !== "baseline" && (
        <p class="sl-soft">Nothing is steered: this is the baseline.</p>
      )}
      {view === "projection" && projections && names.length === 0 && (
        <p class="sl-empty">This lab has no direction yet to project on.</p>
      )}
      {map && !current && !error && (
        <p class="sl-stale-words" role="status">
          {details.ready ? "Being read anew." : "Of an older text: it is read anew when the run has ended."}
        </p>
      )}
      {map ? (
        <div data-stale={!current}>
          <LensGrid map={map} answer={view === "next" ? answer : null} wide={view === "next"} under={under} />
        </div>
      ) : (
        !error && !reading && <p class="sl-empty">The layers are read as soon as the run has ended.</p>
      )}
    </div>
  );
}

interface MapProps {
  map: LensMap;
  /** What the five likeliest of a cell are taken from. */
  answer: LensAnswer | null;
  wide: boolean;
  under: Under;
}

function LensGrid({ map, answer, wide, under }: MapProps) {
  const pointed = useSignal<Place | null>(null);
  const heatmap = useMemo(() => {
    const layer = (row: number) => map.layers - 1 - row;
    const split = map.n_prompt - map.start;
    return (
      <Heatmap
        label={`${map.scale.title}, layers by tokens, ${under}`}
        rows={{ title: "layer", labels: Array.from({ length: map.layers }, (_, row) => String(layer(row))) }}
        columns={{
          title: "token",
          labels: map.tokens.map(spelled),
          ...(split > 0 && split < map.tokens.length ? { split } : {}),
        }}
        cell={(row, column) => map.cell(layer(row), column)}
        detail={(row, column) => map.detail(layer(row), column)}
        scale={map.scale}
        onPoint={(place) => {
          if (place) pointed.value = [layer(place[0]), place[1]]; // the last one stays to be read
        }}
        cellWidth={wide ? 68 : 34}
        labelWidth={84}
      />
    );
  }, [map]);
  return (
    <>
      {heatmap}
      {answer && <CellFacts answer={answer} pointed={pointed} />}
    </>
  );
}

/** The five likeliest of the cell that is pointed at. Its own label says them to the ear. */
function CellFacts({ answer, pointed }: { answer: LensAnswer; pointed: Signal<Place | null> }) {
  const [layer, column] = pointed.value ?? [0, -1];
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
