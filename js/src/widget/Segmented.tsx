/** One of a few, all in sight. */
import { useUnique } from "./unique";

interface Props<T extends string> {
  label: string;
  options: readonly { value: T; title: string; label?: string }[];
  value: T;
  onChange(value: T): void;
}

export function Segmented<T extends string>({ label, options, value, onChange }: Props<T>) {
  const name = useUnique();
  return (
    <div class="sl-segmented" role="radiogroup" aria-label={label}>
      {options.map((option) => (
        <label key={option.value} title={option.title}>
          <input
            type="radio"
            name={name}
            checked={option.value === value}
            onChange={() => onChange(option.value)}
          />
          <span>{option.label ?? option.value}</span>
        </label>
      ))}
    </div>
  );
}
