/**
 * A number to type. What is half typed ("−", "1.") is left alone until it is a number, or until the number is changed from
 * elsewhere, as by undo. What is out of range stays to be corrected, and the number is what it was before it was typed.
 */

import { useEffect, useState } from "preact/hooks";
import { minus } from "./numbers";
import { useUnique } from "./unique";

interface Props {
  label: string;
  value: number;
  step?: number;
  min?: number;
  max?: number;
  integer?: boolean;
  onChange(value: number): void;
}

interface Draft {
  text: string;
  /** What the number is meanwhile, and what it was before. */
  value: number;
  before: number;
  is: "fit" | "half" | "beyond";
}

const MOST = 1e6;

export function NumberField({ label, value, step = 1, min, max, integer, onChange }: Props) {
  const id = useUnique();
  const [typed, setTyped] = useState<Draft | null>(null);
  const draft = typed?.value === value ? typed : null;
  useEffect(() => {
    // what changed the number from elsewhere, and changes it back, does not bring it back
    setTyped((last) => (last?.is === "beyond" && last.value !== value ? null : last));
  }, [value]);
  const [least, most] = [min ?? -MOST, max ?? MOST];
  const take = (text: string) => {
    const number = integer ? Math.round(Number(text)) : Number(text);
    const half = text.trim() === "" || !Number.isFinite(number);
    const is = half ? "half" : number < least || number > most ? "beyond" : "fit";
    const before = draft?.before ?? value;
    const now = { fit: number, half: value, beyond: before }[is];
    setTyped({ text, value: now, before, is });
    if (now !== value) onChange(now);
  };
  return (
    <>
      <input
        class="sl-number"
        type="number"
        inputMode="decimal"
        aria-label={label}
        aria-invalid={draft !== null && draft.is !== "fit"}
        aria-describedby={draft?.is === "beyond" ? id : undefined}
        {...{ min, max }}
        step={integer ? 1 : Number(step.toPrecision(3))}
        value={draft?.text ?? Number(value.toFixed(3))}
        onInput={(event) => take(event.currentTarget.value)}
        onBlur={() => setTyped((last) => (last?.is === "beyond" ? last : null))}
      />
      {draft?.is === "beyond" && (
        <span id={id} class="sl-wrong">
          {minus(`${least} to ${most}`)}
        </span>
      )}
    </>
  );
}
