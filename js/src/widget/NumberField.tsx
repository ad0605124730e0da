/**
 * A number to type. What is half typed ("−", "1.") is left alone until it is a number, or until the number is changed from
 * elsewhere, as by undo.
 */
import { useState } from "preact/hooks";

interface Props {
  label: string;
  value: number;
  step?: number;
  min?: number;
  max?: number;
  integer?: boolean;
  onChange(value: number): void;
}

export function NumberField({ label, value, step = 1, min, max, integer, onChange }: Props) {
  const [draft, setDraft] = useState<{ text: string; value: number; fits: boolean } | null>(null);
  const take = (text: string) => {
    const number = integer ? Math.round(Number(text)) : Number(text);
    const fits =
      text.trim() !== "" && Number.isFinite(number) && number >= (min ?? -1e6) && number <= (max ?? 1e6);
    setDraft({ text, value: fits ? number : value, fits });
    if (fits && number !== value) onChange(number);
  };
  return (
    <input
      class="sl-number"
      type="number"
      inputMode="decimal"
      aria-label={label}
      aria-invalid={draft !== null && !draft.fits && draft.value === value}
      {...{ min, max }}
      step={integer ? 1 : Number(step.toPrecision(3))}
      value={draft?.value === value ? draft.text : Number(value.toFixed(3))}
      onInput={(event) => take(event.currentTarget.value)}
      onBlur={() => setDraft(null)}
    />
  );
}
