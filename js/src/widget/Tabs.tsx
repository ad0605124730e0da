/** The tabs at the bottom, by the WAI-ARIA pattern. Which one is open belongs to the view: it is no part of what is set. */
import { useRef, useState } from "preact/hooks";
import type { Store } from "./store";
import { TABS } from "./tablist";
import { useUnique } from "./unique";

export function Tabs({ store }: { store: Store }) {
  const base = useUnique();
  const list = useRef<HTMLDivElement>(null);
  const [open, setOpen] = useState("preview");
  // what was opened once stays, hidden, so that it keeps what was typed and asked in it
  const [visited, setVisited] = useState<readonly string[]>(["preview"]);
  const show = (id: string) => {
    setOpen(id);
    if (!visited.includes(id)) setVisited([...visited, id]);
  };
  const onKey = (event: KeyboardEvent) => {
    const at = TABS.findIndex(({ id }) => id === open);
    const last = TABS.length - 1;
    const moves: Record<string, number> = {
      ArrowLeft: at ? at - 1 : last,
      ArrowRight: at === last ? 0 : at + 1,
      Home: 0,
      End: last,
    };
    const to = TABS[moves[event.key] ?? -1];
    if (!to) return;
    event.preventDefault();
    show(to.id);
    list.current?.querySelector<HTMLElement>(`[data-tab="${to.id}"]`)?.focus();
  };
  return (
    <div class="sl-section sl-tabs">
      <div ref={list} class="sl-tablist" role="tablist" aria-label="Views" onKeyDown={onKey}>
        {TABS.map(({ id, title }) => (
          <button
            key={id}
            type="button"
            role="tab"
            class="sl-tab"
            data-tab={id}
            id={`${base}-tab-${id}`}
            aria-controls={`${base}-${id}`}
            aria-selected={id === open}
            tabIndex={id === open ? 0 : -1}
            onClick={() => show(id)}
          >
            {title}
          </button>
        ))}
      </div>
      {TABS.map(({ id, Body }) => (
        <div
          key={id}
          class="sl-tabpanel"
          role="tabpanel"
          id={`${base}-${id}`}
          aria-labelledby={`${base}-tab-${id}`}
          hidden={id !== open}
        >
          {visited.includes(id) && <Body store={store} open={id === open} show={show} />}
        </div>
      ))}
    </div>
  );
}
