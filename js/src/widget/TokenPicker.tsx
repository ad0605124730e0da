/**
 * Chooses tokens of the prompt that a direction acts on, with the mouse or the keyboard: arrows move, space or Enter takes a
 * token in or out, shift with an arrow carries on what the last token was given. Places count from the prompt's end, as in a
 * recipe, so that they mean the same after the next prompt.
 */

import { useRef, useState } from "preact/hooks";
import { pressed, step } from "./grid";
import { minus } from "./numbers";
import { type Part, spelled } from "./template";

interface Props {
  label: string;
  /** The prompt as the model reads it. */
  parts: readonly Part[];
  /** The places of the chosen tokens: −1 is the last. */
  chosen: readonly number[];
  onChange(chosen: number[]): void;
}

export function TokenPicker({ label, parts, chosen, onChange }: Props) {
  const n = parts.length;
  const [focus, setFocus] = useState(n - 1);
  const [pointed, setPointed] = useState<number | null>(null);
  const painting = useRef(true);
  const list = useRef<HTMLDivElement>(null);
  const at = Math.max(0, Math.min(focus, n - 1));
  const newest = useRef(chosen); // keys may come faster than drawing
  newest.current = chosen;
  const on = new Set(chosen);
  const beyond = chosen.filter((place) => place < -n);
  const paint = (i: number, yes: boolean) => {
    painting.current = yes;
    const rest = newest.current.filter((place) => place !== i - n);
    const now = (yes ? [...rest, i - n] : rest).sort((a, b) => a - b);
    newest.current = now;
    onChange(now);
  };
  const onKey = (event: KeyboardEvent) => {
    const from = Number((event.target as HTMLElement).dataset.token ?? at);
    const go = (to: number) => {
      list.current?.querySelector<HTMLElement>(`[data-token="${to}"]`)?.focus();
      if (event.shiftKey) paint(to, painting.current);
    };
    pressed(event, step(event.key, from, n), go, () => paint(from, !newest.current.includes(from - n)));
  };
  const count = chosen.length === 1 ? "1 token" : `${chosen.length} tokens`;
  const says = [
    chosen.length ? `${count} of the prompt, counted from its end` : "no token: it does nothing",
    ...(beyond.length ? [`${beyond.map(minus).join(", ")} would lie before this prompt begins`] : []),
  ];
  return (
    <div class="sl-pick">
      <div
        ref={list}
        class="sl-template"
        role="listbox"
        aria-label={label}
        aria-multiselectable="true"
        onKeyDown={onKey}
        onPointerLeave={() => setPointed(null)}
        onFocusOut={() => setPointed(null)}
      >
        {parts.map(({ token, own }, i) => (
          <span
            key={i}
            role="option"
            class={own ? "sl-own" : "sl-frame"}
            data-token={i}
            tabIndex={i === at ? 0 : -1}
            aria-selected={on.has(i - n)}
            aria-label={`${minus(i - n)}: ${spelled(token)}`}
            onFocus={() => {
              setFocus(i);
              setPointed(i);
            }}
            onPointerDown={(event) => {
              if (event.button !== 0) return;
              (event.currentTarget as Element).releasePointerCapture?.(event.pointerId);
              paint(i, !on.has(i - n));
            }}
            onPointerEnter={(event) => {
              setPointed(i);
              if (event.buttons & 1) paint(i, painting.current);
            }}
          >
            {spelled(token)}
          </span>
        ))}
      </div>
      <p class="sl-say" aria-hidden={pointed !== null}>
        {pointed === null
          ? says.join("; ")
          : `${minus(pointed - n)}: ${spelled(parts[pointed]?.token ?? "")}`}
      </p>
    </div>
  );
}
