/** The directions, a row each: on or off, add or ablate, and how strongly. */
import type { SteeringState } from "../protocol";
import { defaultCells, same } from "./cells";
import { NumberField } from "./NumberField";
import { Segmented } from "./Segmented";
import { Slider } from "./Slider";
import { meaning, range, spoken } from "./scale";
import type { Store } from "./store";

export function Directions({ store }: { store: Store }) {
  const { steering: rows, beyond, conflicts } = store.state.value;
  return (
    <section class="sl-section" aria-label="Directions">
      <h4 class="sl-label">Directions</h4>
      {rows.length === 0 && (
        <p class="sl-empty">
          This lab has no direction yet. Find one in a cell:{" "}
          <code>lab.find_direction(harmful, harmless)</code>
        </p>
      )}
      <div class="sl-rows">
        {rows.map((row, index) => (
          <Row key={index} store={store} row={row} index={index} alone={rows.length === 1} />
        ))}
      </div>
      {beyond.length > 0 && (
        <p class="sl-beyond">
          and from Python:{" "}
          {beyond.map((step) => (
            <code key={step}>{step}</code>
          ))}
        </p>
      )}
      {/* always there, so that a screen reader hears what comes into it */}
      <div class="sl-conflicts" role="status">
        {conflicts.map((conflict) => (
          <p key={conflict}>
            <strong>This recipe may not do what you mean:</strong> {conflict}.
          </p>
        ))}
      </div>
    </section>
  );
}

interface RowProps {
  store: Store;
  row: SteeringState;
  index: number;
  alone: boolean;
}

function Row({ store, row, index, alone }: RowProps) {
  const direction = store.directions.value.find((d) => d.name === row.direction);
  const selected = store.selected.value === index && !alone;
  const { min, max, step } = range(row, direction);
  // to move the slider of a row that is off is to want it on
  const push = (coefficient: number) => store.editRow(index, { coefficient, enabled: true });
  return (
    <div
      class="sl-row"
      role="group"
      aria-label={row.direction}
      data-off={!row.enabled}
      data-selected={selected}
      onFocusCapture={() => {
        store.selected.value = index;
      }}
    >
      <label class="sl-name" title={direction?.description || undefined}>
        <input
          type="checkbox"
          checked={row.enabled}
          onChange={(event) => store.editRow(index, { enabled: event.currentTarget.checked })}
        />
        <span>{row.direction}</span>
      </label>
      <Segmented
        label={`What is done with ${row.direction}`}
        options={MODES}
        value={row.mode}
        onChange={(mode) => store.editRow(index, switched(store, row, index, mode))}
      />
      <Slider
        label={`${NUMBERS[row.mode]} of ${row.direction}`}
        text={spoken(row, direction)}
        value={row.coefficient}
        {...{ min, max, step }}
        onChange={push}
      />
      <NumberField
        label={`${NUMBERS[row.mode]} of ${row.direction}, as a number`}
        value={row.coefficient}
        step={step}
        onChange={push}
      />
      <span class="sl-meaning">{meaning(row, direction)}</span>
    </div>
  );
}

const NUMBERS = { add: "Coefficient", ablate: "Strength", clamp: "Value" };

const MODES = [
  { value: "add", title: "Add a multiple of the vector to the stream" },
  { value: "ablate", title: "Remove what the stream has along the vector" },
  { value: "clamp", title: "Set what the stream has along the vector to a value" },
] as const;

/** The other mode, with the number it had, and with its own sites unless the person chose others. */
function switched(
  store: Store,
  row: SteeringState,
  index: number,
  mode: SteeringState["mode"],
): Partial<SteeringState> {
  const info = store.info.value;
  const direction = store.directions.value.find((d) => d.name === row.direction);
  const untouched = same(row.cells, defaultCells(row.mode, info, direction));
  store.remembered.set(`${index} ${row.mode}`, row.coefficient);
  return {
    mode,
    coefficient: store.remembered.get(`${index} ${mode}`) ?? (mode === "clamp" ? 0 : 1),
    cells: untouched ? defaultCells(mode, info, direction) : row.cells,
    enabled: true,
  };
}
