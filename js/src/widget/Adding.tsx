/** More directions: one of the lab's, or a file's. What a file leaves open is asked here, never guessed. */
import { useRef, useState } from "preact/hooks";
import type {
  DirectionInfo,
  ExportQuestion,
  FileBytes,
  Info,
  LoadQuestion,
  OpenQuestion,
  Trouble,
} from "../protocol";
import { contents, save } from "./bytes";
import type { Cell } from "./cells";
import { Failed } from "./Failed";
import { Form } from "./Form";
import { Menu } from "./Menu";
import { NumberField } from "./NumberField";
import { freshRow } from "./rows";
import type { Store } from "./store";
import { useAction } from "./useAction";
import { Working } from "./Working";

type Answers = Pick<LoadQuestion, "site" | "point" | "layer" | "position" | "feature">;

export const NOTHING: Answers = { site: null, point: null, layer: null, position: null, feature: null };
const KINDS = ".safetensors,.gguf,.pt,.bin,.json"; // .steer.json, and metadata beside a vector, are among them

export function Adding({ store }: { store: Store }) {
  const chooser = useRef<HTMLInputElement>(null);
  const loading = useAction<LoadQuestion>(store);
  const saving = useAction<ExportQuestion>(store);
  const [files, setFiles] = useState<readonly FileBytes[]>([]);
  const [answers, setAnswers] = useState(NOTHING);
  const [open, setOpen] = useState<OpenQuestion | null>(null);
  const [refused, setRefused] = useState<Trouble | null>(null);
  const [said, setSaid] = useState("");
  const end = () => {
    setOpen(null);
    setFiles([]);
    setAnswers(NOTHING);
  };
  const load = (some: readonly FileBytes[], given: Answers) => {
    setSaid("");
    saving.forget();
    setAnswers(given);
    loading.act({ kind: "load", files: [...some], ...given }, (answer) => {
      setOpen(answer.question);
      if (answer.question) return;
      end();
      setSaid(answer.steps === null ? `${answer.direction} was loaded` : "The recipe was loaded");
    });
  };
  const choose = async (chosen: readonly File[]) => {
    end();
    loading.forget();
    saving.forget();
    const read = await contents(chosen);
    setRefused("what" in read ? read : null);
    if ("what" in read) return;
    setFiles(read);
    load(read, NOTHING);
  };
  const add = (direction: DirectionInfo) => store.editRows((rows) => [...rows, freshRow(direction)]);
  const saveRecipe = () => {
    setRefused(null);
    loading.forget();
    store.flush();
    const { revision } = store.state.peek();
    saving.act({ kind: "export", form: "recipe", direction: "", fingerprint: "", revision }, (answer) =>
      save(answer.files),
    );
  };
  return (
    <>
      <div class="sl-adding">
        {store.directions.value.length > 0 && (
          <Menu
            label="Add a direction of the lab"
            items={store.directions.value.map((d) => ({
              name: d.name,
              hint: d.description,
              choose: () => add(d),
            }))}
          >
            + add a direction
          </Menu>
        )}
        <button type="button" class="sl-button" onClick={() => chooser.current?.click()}>
          + load a file…
        </button>
        <button
          type="button"
          class="sl-button"
          title="The recipe with its vectors, as recipe.steer.json; “load a file” reads it again"
          onClick={saveRecipe}
        >
          Save the recipe
        </button>
        <span role="status" class="sl-said">
          {said}
        </span>
        <input
          ref={chooser}
          type="file"
          hidden
          multiple
          accept={KINDS}
          aria-label="A file of a direction or a recipe"
          onChange={(event) => {
            const field = event.currentTarget;
            const chosen = [...(field.files ?? [])];
            field.value = ""; // so that the same file can be chosen again
            if (chosen.length) choose(chosen);
          }}
        />
      </div>
      <Working asked={loading.asked} what="Reading the file" />
      <Failed error={refused ?? loading.asked?.error.value ?? saving.asked?.error.value} />
      {open && (
        <Open
          key={open.asks}
          open={open}
          info={store.info.value}
          take={(more) => load(files, { ...answers, ...more })}
          cancel={end}
        />
      )}
    </>
  );
}

interface OpenProps {
  open: OpenQuestion;
  info: Info;
  take(more: Partial<Answers>): void;
  cancel(): void;
}

/** What a file does not say, to be filled in. */
function Open({ open, info, take, cancel }: OpenProps) {
  const points = open.points.length ? open.points : info.points;
  const [layer, setLayer] = useState(open.layers[0] ?? Math.floor(info.n_layers / 2));
  const [point, setPoint] = useState<Cell[1]>(points[0] ?? "resid_pre");
  const [position, setPosition] = useState(open.positions.at(-1) ?? -1);
  const [feature, setFeature] = useState(0);
  const { asks } = open;
  const given: Record<OpenQuestion["asks"], Partial<Answers>> = {
    site: { site: [layer, point] },
    point: { point },
    layer: { layer },
    position: { position },
    feature: { feature },
  };
  return (
    <Form look="sl-open" label="What the file does not say" send={() => take(given[asks])}>
      <p>{`${open.what}.`}</p>
      {(asks === "site" || asks === "layer") && (
        <label>
          layer
          <select
            class="sl-select"
            value={layer}
            onChange={(event) => setLayer(Number(event.currentTarget.value))}
          >
            {(open.layers.length ? open.layers : Array.from({ length: info.n_layers }, (_, i) => i)).map(
              (i) => (
                <option key={i} value={i}>
                  {i}
                </option>
              ),
            )}
          </select>
        </label>
      )}
      {(asks === "site" || asks === "point") && (
        <label>
          point
          <select
            class="sl-select"
            value={point}
            onChange={(event) => setPoint(event.currentTarget.value as Cell[1])}
          >
            {points.map((one) => (
              <option key={one} value={one}>
                {one}
              </option>
            ))}
          </select>
        </label>
      )}
      {asks === "position" && (
        <label>
          position, counted from the end of the prompt
          <select
            class="sl-select"
            value={position}
            onChange={(event) => setPosition(open.positions[event.currentTarget.selectedIndex] ?? position)}
          >
            {open.positions.map((one) => (
              <option key={one} value={one}>
                {one}
              </option>
            ))}
          </select>
        </label>
      )}
      {asks === "feature" && (
        <span class="sl-open-field">
          feature
          <NumberField
            label={`Feature, 0 to ${open.features - 1}`}
            value={feature}
            min={0}
            max={open.features - 1}
            integer
            onChange={setFeature}
          />
        </span>
      )}
      <button type="submit" class="sl-button">
        Use it
      </button>
      <button type="button" class="sl-button" onClick={cancel}>
        Cancel
      </button>
    </Form>
  );
}
