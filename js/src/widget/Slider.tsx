/** A slider that is filled from zero, with a mark there, so that nothing and its opposite are told apart at a glance. */

import type { Stretch } from "./cost";
import { watchRelease } from "./host";
import { minus } from "./numbers";
import { tidy } from "./scale";

interface Props {
  label: string;
  /** The value in words. */
  text: string;
  /** The id of what more there is to say of it. */
  describedBy?: string;
  value: number;
  min: number;
  max: number;
  step: number;
  /** Parts of the track that are shaded, and what is said of the number in them. */
  stretches?: readonly Stretch[];
  warning?: string | undefined;
  /** Values whose texts are there already; each is marked. */
  ready?: readonly number[];
  onChange(value: number): void;
  /** The thumb is pressed, or released. */
  onHold(held: boolean): void;
}

export function Slider({
  label,
  text,
  describedBy,
  value,
  min,
  max,
  step,
  stretches,
  warning,
  ready = [],
  onChange,
  onHold,
}: Props) {
  const at = (x: number) => (max > min ? (x - min) / (max - min) : 0);
  const style = { "--from": at(Math.min(0, value)), "--to": at(Math.max(0, value)), "--zero": at(0) };
  return (
    <div
      class="sl-slider"
      data-sign={value === 0 ? "0" : value < 0 ? "-" : "+"}
      data-warn={warning !== undefined}
      style={style}
    >
      {stretches?.map(({ from, to, kind }) => (
        <span
          key={`${kind} ${from}`}
          class="sl-stretch"
          data-kind={kind}
          style={{ "--a": at(from), "--b": at(to) }}
          aria-hidden="true"
        />
      ))}
      <div class="sl-track" aria-hidden="true" />
      <svg class="sl-ready" aria-hidden="true" viewBox="0 0 1 1" preserveAspectRatio="none">
        <path d={ready.map((x) => `M${at(x).toFixed(4)} 0V1`).join("")} />
      </svg>
      <input
        type="range"
        aria-label={label}
        aria-describedby={describedBy}
        aria-valuetext={warning ? `${text}. ${warning}` : text}
        {...{ min, max, step, value }}
        onInput={(event) => onChange(tidy(event.currentTarget.valueAsNumber, step))}
        onPointerDown={() => {
          onHold(true);
          const end = new AbortController();
          watchRelease(end.signal, () => {
            end.abort();
            onHold(false);
          });
        }}
        onDblClick={() => onChange(0)}
        title={
          warning ?? `Double-click for 0${ready.length ? ". Small ticks mark texts that are ready" : ""}`
        }
      />
      <div class="sl-ticks" aria-hidden="true">
        <span class="sl-tick" style={{ "--at": at(min) }}>
          {short(min)}
        </span>
        {min < 0 && (
          <span class="sl-tick" style={{ "--at": at(0) }}>
            0
          </span>
        )}
        <span class="sl-tick" style={{ "--at": at(max) }}>
          {short(max)}
        </span>
      </div>
    </div>
  );
}

function short(x: number): string {
  return minus(Number(x.toPrecision(3)));
}
