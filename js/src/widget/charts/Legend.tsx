/** What the shades of a map mean, and its marks. */
import { digits, type Scale } from "./colour";

interface Props {
  scale: Scale;
  /** Whether there are cells below 0, which have a sign of their own. */
  below?: boolean;
  /** What a ring stands for, and what a hatched cell does, where the map has them. */
  marked?: string | undefined;
  rejected?: string | undefined;
  /** What the dot in a cell stands for. */
  chosen?: string | undefined;
  /** What an empty cell stands for, where there is one. */
  empty?: string | undefined;
}

export function Legend({ scale, below, marked, chosen, rejected, empty }: Props) {
  const middle = (scale.min + scale.max) / 2;
  return (
    <div class="sl-legend">
      <span class="sl-legend-title">{scale.title}</span>
      <span class="sl-ramp">
        <span class="sl-ramp-bar" data-kind={scale.kind} aria-hidden="true" />
        {[scale.min, middle, scale.max].map((value) => (
          <span key={value}>{digits(scale, value)}</span>
        ))}
      </span>
      {below && <Key mark="below" words="below 0" />}
      {marked && <Key mark="marked" words={marked} />}
      {chosen && <Key mark="chosen" words={chosen} />}
      {rejected && <Key mark="rejected" words={rejected} />}
      {empty && <Key mark="empty" words={empty} />}
    </div>
  );
}

function Key({ mark, words }: { mark: string; words: string }) {
  return (
    <span class="sl-legend-key">
      <span class="sl-swatch" data-mark={mark} aria-hidden="true" />
      {words}
    </span>
  );
}
