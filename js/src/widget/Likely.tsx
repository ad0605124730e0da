/** Tokens with numbers, the first the likeliest, as a list. */
import { spelled } from "./template";

interface Props {
  title: string;
  tokens: readonly (readonly [text: string, value: number])[];
  format?(value: number): string;
  /** What stands where there is none. */
  empty?: string;
}

export function Likely({ title, tokens, format = percent, empty }: Props) {
  return (
    <div class="sl-likely">
      <p class="sl-likely-title">{title}</p>
      <ol>
        {tokens.map(([text, value], i) => (
          <li key={i}>
            <span class="sl-token">{spelled(text)}</span>
            <span class="sl-likely-value">{format(value)}</span>
          </li>
        ))}
      </ol>
      {tokens.length === 0 && empty && <p class="sl-empty">{empty}</p>}
    </div>
  );
}

/** A probability, with as many digits as say something. */
export function percent(p: number): string {
  if (p < 0.0005) return "< 0.1 %"; // never quite 0
  if (p > 0.9995) return "> 99.9 %";
  return `${(100 * p).toFixed(p < 0.1 ? 1 : 0)} %`;
}
