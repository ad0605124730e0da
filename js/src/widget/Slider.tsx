/** A slider that is filled from zero, with a mark there, so that nothing and its opposite are told apart at a glance. */
import type { Stretch } from "./cost";

interface Props {
  label: string;
  /** The value in words. */
  text: string;
  value: number;
  min: number;
  max: number;
  step: number;
  /** Parts of the track that are shaded, and what is said of the number in them. */
  stretches?: readonly Stretch[];
  warning?: string | undefined;
  onChange(value: number): void;
}

export function Slider({ label, text, value, min, max, step, stretches, warning, onChange }: Props) {
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
      <input
        type="range"
        aria-label={label}
        aria-valuetext={warning ? `${text}. ${warning}` : text}
        {...{ min, max, step, value }}
        onInput={(event) => onChange(tidy(event.currentTarget.valueAsNumber, step))}
        onDblClick={() => onChange(0)}
        title={warning ?? "Double-click for 0"}
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

/** Without the crumbs of binary fractions, and 0 exactly 0. */
function tidy(value: number, step: number): number {
  return Math.abs(value) < step / 2 ? 0 : Number(value.toPrecision(6));
}

function short(x: number): string {
  return String(Number(x.toPrecision(3))).replace("-", "−");
}
