/** One row: on or off, add or ablate, how strongly, and what else can be done with it. */
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { ExportQuestion, RenameQuestion, SteeringState } from "../protocol";
import { save } from "./bytes";
import { defaultCells, same } from "./cells";
import { overBudget, stretches, type useRested, useZone, warning } from "./cost";
import { Failed } from "./Failed";
import { watchRelease } from "./host";
import { type Item, Menu } from "./Menu";
import { NumberField } from "./NumberField";
import { copied, moved, rowName, without } from "./rows";
import { Segmented } from "./Segmented";
import { Slider } from "./Slider";
import { meaning, type Range, range, raw, spoken } from "./scale";
import type { Store } from "./store";
import { useUnique } from "./unique";
import { useAction } from "./useAction";

interface RowProps {
  store: Store;
  row: SteeringState;
  index: number;
  count: number;
  rested: ReturnType<typeof useRested>;
  /** KL of this row, in nats; null where it does nothing, undefined before it is known. */
  kl: number | null | undefined;
  /** Over which it is too much. */
  budget: number;
  stale: boolean;
}

export function DirectionRow({ store, row, index, count, rested, kl, budget, stale }: RowProps) {
  const root = useRef<HTMLDivElement>(null);
  const direction = store.directions.value.find((d) => d.name === row.direction);
  const selected = store.selected.value === index && count > 1;
  const [held, hold] = useState<Range | null>(null);
  const fresh = range(row, direction);
  // while the slider is held its ends stay, and the number under the pointer
  const reach = held && held.max >= fresh.max && held.min <= fresh.min ? held : fresh;
  const chosen = Math.min(store.selected.value, count - 1) === index;
  const zone = useZone(store, rested, index, chosen, reach);
  // the zone is asked for the row in hand alone; of the others no more is known than what they cost now
  const over = zone ? warning(zone, row.coefficient, reach) : overBudget(stale ? null : kl, budget);
  const warn = row.enabled ? over : null;
  const name = rowName(store.state.value.steering, index);
  const rawId = useUnique();
  const cost = typeof kl === "number" && row.enabled ? `KL ${kl < 0.005 ? "< 0.01" : kl.toFixed(2)}` : "";
  const [renaming, setRenaming] = useState(false);
  const doing = useAction<RenameQuestion | ExportQuestion>(store);
  useEffect(() => doing.forget(), [row.direction]); // rows have no names of their own: this one may be another now
  // to move the slider of a row that is off is to want it on
  const push = (coefficient: number) => store.editRow(index, { coefficient, enabled: true });
  const move = (to: number, from = index) => {
    if (to < 0 || to >= count) return;
    store.editRows((rows) => moved(rows, from, to));
    store.selected.value = to;
    // rows have no names of their own: the focus goes with the row, into what will show it; keys may come faster than drawing
    root.current?.parentElement?.children[to]
      ?.querySelector<HTMLElement>(".sl-grip")
      ?.focus({ preventScroll: true });
  };
  const select = () => {
    store.selected.value = index;
  };
  const vector = (form: ExportQuestion["form"]) => () =>
    doing.act(
      {
        kind: "export",
        form,
        direction: row.direction,
        fingerprint: direction?.fingerprint ?? "",
        revision: 0,
      },
      (answer) => save(answer.files),
    );
  const items: Item[] = [
    {
      name: "Duplicate",
      hint: "A second row of the same direction, to do something else with it",
      choose: () => store.editRows((rows) => copied(rows, index)),
    },
    {
      name: "Rename…",
      choose: () => {
        doing.forget();
        setRenaming(true);
      },
    },
    { name: "Move up", off: index === 0, choose: () => move(index - 1) },
    { name: "Move down", off: index === count - 1, choose: () => move(index + 1) },
    {
      name: "Save as .safetensors",
      hint: "The vector with its site and provenance, as steerlab keeps it",
      apart: true,
      choose: vector("safetensors"),
    },
    {
      name: "Save as GGUF control vector",
      hint: "For llama.cpp and repeng",
      choose: vector("gguf"),
    },
    {
      name: "Save as direction.pt",
      hint: "With direction_metadata.json, as the refusal paper’s code reads it",
      choose: vector("pt"),
    },
    {
      name: "Remove",
      hint: "The row goes; the direction stays in lab.directions",
      apart: true,
      choose: () => store.editRows((rows) => without(rows, index)),
    },
  ];
  return (
    <div
      ref={root}
      class="sl-row"
      role="group"
      aria-label={name}
      aria-current={selected ? "true" : undefined}
      data-off={!row.enabled}
      data-selected={selected}
      // not by the focus alone: Tab goes through the rows on its way to Where, which would be the last one's for ever
      onPointerDownCapture={select}
      onClickCapture={select}
      onInputCapture={select}
      onKeyDownCapture={({ key, ctrlKey, metaKey }) =>
        ctrlKey || metaKey || PASSING.includes(key) || select()
      }
    >
      <div class="sl-name-cell">
        {count > 1 && <Grip name={name} index={index} move={move} />}
        {renaming ? (
          <NewName
            name={row.direction}
            end={(name, byKey) => {
              if (byKey) root.current?.querySelector<HTMLElement>(".sl-more")?.focus({ preventScroll: true });
              setRenaming(false);
              if (name && name !== row.direction)
                doing.act({ kind: "rename", direction: row.direction, name });
            }}
          />
        ) : (
          <label class="sl-name" title={[row.direction, direction?.description].filter(Boolean).join(": ")}>
            <input
              type="checkbox"
              aria-label={name}
              checked={row.enabled}
              onChange={(event) => store.editRow(index, { enabled: event.currentTarget.checked })}
            />
            <span>{row.direction}</span>
          </label>
        )}
      </div>
      <Segmented
        label={`What is done with ${name}`}
        options={MODES}
        value={row.mode}
        onChange={(mode) => store.editRow(index, switched(store, row, mode))}
      />
      <Slider
        label={`${NUMBERS[row.mode]} of ${name}`}
        describedBy={rawId}
        text={spoken(row, direction)}
        value={row.coefficient}
        {...reach}
        stretches={stretches(zone)}
        warning={warn?.words}
        ready={store.ahead.marks(store.state.value, index)}
        onChange={push}
        onHold={(yes) => hold(yes ? reach : null)}
      />
      <NumberField
        label={`${NUMBERS[row.mode]} of ${name}, as a number`}
        value={row.coefficient}
        step={reach.step}
        onChange={push}
      />
      <div class="sl-means">
        <span class="sl-meaning" title={raw(row, direction)}>
          {meaning(row, direction)}
        </span>
        <span id={rawId} hidden>
          {raw(row, direction)}
        </span>
        <div class="sl-costs">
          {(cost || warn || !rested.unasked) && (
            <span class="sl-cost" data-stale={stale} data-warn={warn !== null} title={warn?.words ?? COST}>
              {cost || " "}
              {warn && <strong>{` ${warn.short}`}</strong>}
            </span>
          )}
          {rested.unasked && rested.settled && row.enabled && (
            <button
              type="button"
              class="sl-weigh"
              title={`${COST}, and from which number on it is too much: a few short jobs on the server`}
              aria-label={`Measure the KL of ${name}`}
              onClick={() => {
                store.weighed.value = { ...store.state.value, row: index };
              }}
            >
              KL?
            </button>
          )}
        </div>
      </div>
      <Menu label={`More for ${name}`} items={items} look="sl-more" side="right">
        <svg viewBox="0 0 24 24" aria-hidden="true">
          <path d="M12 5.5v.01M12 12v.01M12 18.5v.01" stroke-width="3.4" />
        </svg>
      </Menu>
      <Failed error={doing.asked?.error.value} />
    </div>
  );
}

/** Takes a row to another place: by dragging, or with the arrows. */
function Grip({ name, index, move }: { name: string; index: number; move(to: number, from: number): void }) {
  const drag = (list: Element) => {
    let at = index;
    // each move draws the rows anew, so what is followed is the pointer, not this button
    const over = new AbortController();
    const follow = (event: PointerEvent) => {
      if (event.buttons === 0) return over.abort(); // released where nobody told of it
      const place = [...list.children].findIndex((row) => {
        const { top, bottom } = row.getBoundingClientRect();
        return event.clientY >= top && event.clientY < bottom;
      });
      if (place < 0 || place === at) return;
      move(place, at);
      at = place;
    };
    window.addEventListener("pointermove", follow, { signal: over.signal });
    watchRelease(over.signal, () => over.abort());
  };
  return (
    <button
      type="button"
      class="sl-grip"
      aria-label={`Move ${name}: arrow up or down`}
      title="Drag, or press the arrow keys: rows act in their order"
      onPointerDown={(event) => {
        const list = event.currentTarget.closest(".sl-rows");
        if (event.button === 0 && list) drag(list);
      }}
      onKeyDown={(event) => {
        const by = { ArrowUp: -1, ArrowDown: 1 }[event.key];
        if (!by) return;
        event.preventDefault();
        move(index + by, index);
      }}
    >
      <span aria-hidden="true" />
    </button>
  );
}

/** Ends by a key, or where the focus goes elsewhere. */
function NewName({ name, end }: { name: string; end(name: string | null, byKey: boolean): void }) {
  const field = useRef<HTMLInputElement>(null);
  const over = useRef(false);
  // an effect would come after the paint, and what is typed before it would be the page's
  useLayoutEffect(() => {
    field.current?.focus();
    field.current?.select();
  }, []);
  const finish = (value: string | null, byKey: boolean) => {
    if (over.current) return; // to leave the field by Enter is to leave it, too
    over.current = true;
    end(value?.trim() || null, byKey);
  };
  return (
    <input
      ref={field}
      class="sl-text-field"
      aria-label={`New name of ${name}`}
      data-escape
      data-own-undo
      maxLength={80}
      defaultValue={name}
      onKeyDown={(event) => {
        if (event.key === "Enter") finish(event.currentTarget.value, true);
        if (event.key === "Escape") finish(null, true);
      }}
      onBlur={(event) => finish(event.currentTarget.value, false)}
    />
  );
}

/** Keys that lead through a row and do nothing in it. */
const PASSING = ["Tab", "Shift", "Control", "Alt", "Meta", "Escape"];

const COST = "KL(all but this row ‖ all) of the first token on this prompt, in nats";

const NUMBERS = { add: "Coefficient", ablate: "Strength", clamp: "Value" };

const MODES = [
  { value: "add", title: "Add a multiple of the vector to the stream" },
  { value: "ablate", title: "Remove what the stream has along the vector" },
  { value: "clamp", title: "Set what the stream has along the vector to a value" },
] as const;

/** The other mode, with the number it had, and with its own sites unless the person chose others. */
function switched(store: Store, row: SteeringState, mode: SteeringState["mode"]): Partial<SteeringState> {
  const info = store.info.value;
  const direction = store.directions.value.find((d) => d.name === row.direction);
  const untouched = same(row.cells, defaultCells(row.mode, info, direction));
  store.remembered.set(`${row.direction} ${row.mode}`, row.coefficient);
  return {
    mode,
    coefficient: store.remembered.get(`${row.direction} ${mode}`) ?? (mode === "clamp" ? 0 : 1),
    cells: untouched ? defaultCells(mode, info, direction) : row.cells,
    enabled: true,
  };
}
