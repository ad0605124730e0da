/** A button with a list of things to do, by the WAI-ARIA pattern of a menu button. */
import type { ComponentChildren } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { useUnique } from "./unique";
import { useAway } from "./useAway";

export interface Item {
  name: string;
  hint?: string;
  /** Begins a new group. */
  apart?: boolean;
  off?: boolean;
  choose(): void;
}

interface Props {
  label: string;
  items: readonly Item[];
  look?: string;
  /** Where the list opens. */
  side?: "left" | "right";
  children: ComponentChildren;
}

export function Menu({ label, items, look = "sl-button", side = "left", children }: Props) {
  const [open, setOpen] = useState(false);
  const root = useRef<HTMLDivElement>(null);
  const button = useRef<HTMLButtonElement>(null);
  const id = useUnique();
  const entries = () => [...(root.current?.querySelectorAll<HTMLElement>('[role="menuitem"]') ?? [])];
  // with the list itself: an effect would come after the paint, and take the focus back from a key that was faster
  useLayoutEffect(() => {
    if (open) entries()[0]?.focus();
  }, [open]);
  useAway(root, open, () => setOpen(false));
  const close = () => {
    setOpen(false);
    button.current?.focus();
  };
  const onKey = (event: KeyboardEvent) => {
    const all = entries();
    const at = all.indexOf(document.activeElement as HTMLElement);
    const last = all.length - 1;
    const moves: Record<string, number> = {
      ArrowDown: at === last ? 0 : at + 1,
      ArrowUp: at <= 0 ? last : at - 1,
      Home: 0,
      End: last,
    };
    // Tab goes on from the button: what had the focus in the list is gone before it does
    if (event.key === "Tab" || event.key === "Escape") close();
    const to = all[moves[event.key] ?? -1];
    to?.focus();
    if (to || event.key === "Escape") {
      event.preventDefault();
      event.stopPropagation();
    }
  };
  return (
    <div ref={root} class="sl-menu" data-side={side}>
      <button
        ref={button}
        type="button"
        class={look}
        aria-label={label}
        title={label}
        aria-haspopup="menu"
        aria-expanded={open}
        aria-controls={id}
        onClick={() => setOpen(!open)}
        data-escape={open ? "" : undefined}
        onKeyDown={(event) => {
          if (open)
            onKey(event); // keys may come faster than the list
          else if (event.key === "ArrowDown") {
            event.preventDefault();
            setOpen(true);
          }
        }}
      >
        {children}
      </button>
      <div id={id} role="menu" aria-label={label} class="sl-menu-list" hidden={!open} onKeyDown={onKey}>
        {open &&
          items.map(({ name, hint, apart, off, choose }) => (
            <button
              key={name}
              type="button"
              role="menuitem"
              class="sl-menu-item"
              data-apart={apart}
              aria-disabled={off}
              title={hint}
              tabIndex={-1}
              onClick={() => {
                if (off) return;
                close();
                choose();
              }}
            >
              {name}
            </button>
          ))}
      </div>
    </div>
  );
}
