/** Where the selected direction acts: presets, and the map of layers and points. */
import { useRef, useState } from "preact/hooks";
import type { Asked } from "./asks";
import { presets, same, summary } from "./cells";
import { rowName } from "./rows";
import { Segmented } from "./Segmented";
import { SitePicker } from "./SitePicker";
import type { Store } from "./store";
import { useStrength } from "./strength";
import { TokenPicker } from "./TokenPicker";
import { templateParts } from "./template";
import { useUnique } from "./unique";

export function Where({ store }: { store: Store }) {
  const [open, setOpen] = useState(true);
  const id = useUnique();
  const picked = useRef(new Map<string, number[]>()); // what a direction had, if its tokens are picked again
  const rows = store.state.value.steering;
  const strength = useStrength(store, open);
  const index = Math.min(store.selected.value, rows.length - 1);
  const row = rows[index];
  if (!row) return null;
  const name = rowName(rows, index);
  const info = store.info.value;
  const direction = store.directions.value.find((d) => d.name === row.direction);
  const frontier = store.questions.newest("frontier").value as Asked<"frontier"> | null;
  const found = frontier?.answer.value;
  const measured = found && found.fingerprint === direction?.fingerprint ? found : null;
  return (
    <section class="sl-section" aria-label={`Where ${name} acts`}>
      <div class="sl-bar">
        <h3 class="sl-label">
          <button
            type="button"
            class="sl-fold"
            aria-expanded={open}
            aria-controls={id}
            onClick={() => setOpen(!open)}
          >
            Where <span class="sl-of">{name}</span>
          </button>
        </h3>
        {!open && <p class="sl-folded">{summary(info, row.cells)}</p>}
        <div class="sl-tokens">
          <span aria-hidden="true">tokens</span>
          <Segmented
            label={`Tokens that ${name} acts on`}
            options={SCOPES}
            value={Array.isArray(row.tokens) ? "pick" : row.tokens}
            onChange={(scope) => {
              if (Array.isArray(row.tokens)) picked.current.set(row.direction, row.tokens);
              const tokens = scope === "pick" ? (picked.current.get(row.direction) ?? [-1]) : scope;
              store.editRow(index, { tokens });
            }}
          />
        </div>
        <div class="sl-presets" role="group" aria-label="Presets">
          {presets(info, direction, measured).map(({ name, hint, cells }) => (
            <button
              key={name}
              type="button"
              class="sl-button"
              title={hint}
              aria-pressed={same(cells, row.cells)}
              onClick={() => store.editRow(index, { cells })}
            >
              {name}
            </button>
          ))}
        </div>
      </div>
      {Array.isArray(row.tokens) && (
        <TokenPicker
          label={`Tokens of the prompt that ${name} acts on`}
          parts={templateParts(store.stream.promptTokens.value, store.state.value.prompt)}
          chosen={row.tokens}
          onChange={(tokens) => store.editRow(index, { tokens })}
        />
      )}
      <div id={id}>
        {open && (
          <SitePicker
            info={info}
            direction={direction}
            cells={row.cells}
            summary={summary(info, row.cells)}
            strength={strength.of}
            stale={strength.stale}
            onChange={(cells) => store.editRow(index, { cells })}
          />
        )}
      </div>
    </section>
  );
}

const SCOPES = [
  { value: "all", title: "Every token, of the prompt and of the answer" },
  { value: "prompt", title: "The tokens of the prompt, chat template included" },
  { value: "generated", label: "response", title: "The tokens that the model writes" },
  { value: "pick", title: "Tokens of the prompt that you choose, counted from its end" },
] as const;
