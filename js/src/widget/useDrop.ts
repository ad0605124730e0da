import type { RefObject } from "preact";
import { useRef, useState } from "preact/hooks";
import { useUnique } from "./unique";
import { useAway } from "./useAway";

interface Drop {
  open: boolean;
  /** Opens it without the button. */
  show(): void;
  /** For the element around the button and what it opens. */
  root: {
    ref: RefObject<HTMLDivElement | null>;
    "data-escape": string | undefined;
    onKeyDown(event: KeyboardEvent): void;
    onFocusOut(event: FocusEvent): void;
  };
  button: {
    ref: RefObject<HTMLButtonElement | null>;
    "aria-expanded": boolean;
    "aria-controls": string;
    onClick(): void;
  };
  /** For what is opened. */
  id: string;
}

/** What a button opens until it is pressed again, Escape is, somebody presses elsewhere, or the focus goes on. */
export function useDrop(): Drop {
  const [open, setOpen] = useState(false);
  const root = useRef<HTMLDivElement>(null);
  const button = useRef<HTMLButtonElement>(null);
  const id = useUnique();
  useAway(root, open, () => setOpen(false));
  return {
    open,
    show: () => setOpen(true),
    id,
    root: {
      ref: root,
      "data-escape": open ? "" : undefined,
      onKeyDown: (event) => {
        if (!open || event.key !== "Escape") return;
        setOpen(false);
        button.current?.focus();
        event.preventDefault();
        event.stopPropagation();
      },
      onFocusOut: ({ relatedTarget: to }) => {
        if (!to || root.current?.contains(to as Node)) return;
        queueMicrotask(() => {
          // it would lie over what has the focus, unless that is back already, as after copying
          if (!root.current?.contains(document.activeElement)) setOpen(false);
        });
      },
    },
    button: { ref: button, "aria-expanded": open, "aria-controls": id, onClick: () => setOpen(!open) },
  };
}
