/** Layers x coefficients: what to measure, the map, and what the model writes in a cell of it. */

import { useState } from "preact/hooks";
import type { CellText, PromptSet, Question, SetCell, SweepCell, TextsQuestion } from "../protocol";
import { able } from "./able";
import type { Asked } from "./asks";
import { digits } from "./charts/colour";
import { Heatmap } from "./charts/Heatmap";
import { Failed } from "./Failed";
import { Form } from "./Form";
import { minus } from "./numbers";
import { PromptSetField } from "./PromptSetField";
import { bundled, count, layersOf, layerWords, numbers, whole } from "./prompts";
import type { Store } from "./store";
import {
  firstCoefficients,
  METRICS,
  type Metric,
  measured,
  metricScale,
  type Spot,
  spotKey,
  statWords,
  together,
} from "./sweeps";
import { useAction } from "./useAction";
import { useAsk } from "./useAsk";
import { useShared } from "./useShared";
import { useVerdict } from "./Verdict";
import { Working } from "./Working";

interface Props {
  store: Store;
  direction: string;
  open: boolean;
}

const isSweep = ({ kind }: Question) => kind === "sweep";

export function SweepGrid({ store, direction, open }: Props) {
  const { n_layers } = store.info.value;
  const { prompt, max_new_tokens, temperature, seed } = store.state.value;
  const info = store.directions.value.find(({ name }) => name === direction);
  const [metric, setMetric] = useState<Metric>("refusal_score");
  const [coefficients, setCoefficients] = useState<string | null>(null);
  const [layers, setLayers] = useState("all");
  const [own, setOwn] = useState(true);
  const [prompts, setPrompts] = useState<PromptSet>(bundled("harmful", 8, true));
  const [control, setControl] = useState(false);
  const setting = useAction<SetCell>(store);
  const [texts, setTexts] = useState<TextsQuestion | null>(null);

  const { asked, ask } = useShared<"sweep">(store, "sweep", open, isSweep, (question) => {
    if (!question.metrics.includes(metric)) setMetric(question.metrics.at(-1) ?? metric);
    setCoefficients(minus(question.coefficients.join(", ")));
    setLayers(question.layers.length === n_layers ? "all" : layerWords(question.layers));
    setControl(question.control);
    const ofPanel = JSON.stringify(question.prompts) === JSON.stringify(whole(prompt));
    setOwn(ofPanel);
    if (!ofPanel) setPrompts(question.prompts);
    setTexts(null);
  });

  const suggested = minus(firstCoefficients(info).join(", "));
  const chosenCoefficients = numbers(coefficients ?? suggested);
  const chosenLayers = layersOf(layers, n_layers);
  const given = own ? whole(prompt) : prompts;
  const n = count(given);
  const rows = chosenCoefficients && chosenLayers && size(chosenLayers, chosenCoefficients, control);
  const busy = asked?.status.value === "going";
  const can = !busy && Boolean(rows) && n !== 0 && store.connection.value !== "gone";
  const run = () => {
    if (!chosenCoefficients || !chosenLayers) return;
    setTexts(null);
    ask({
      kind: "sweep",
      direction,
      layers: chosenLayers,
      coefficients: chosenCoefficients,
      metrics: together(metric),
      prompts: given,
      control,
      max_new_tokens,
      temperature,
      seed,
    });
  };
  const question = asked?.question;
  const found = measured(asked);
  const shown = question?.metrics.includes(metric) ? metric : question?.metrics[0];

  const choose = (spot: Spot) => {
    const fingerprint = asked?.answer.value?.direction ?? asked?.parts.value.at(-1)?.direction;
    if (!question || !fingerprint) return;
    const place = { name: question.direction, direction: fingerprint, ...spot };
    setting.act({ kind: "sweep-set", place });
    setTexts({
      kind: "sweep-texts",
      place,
      prompts: question.prompts,
      max_new_tokens: question.max_new_tokens,
      temperature: question.temperature,
      seed: question.seed,
    });
  };

  return (
    <>
      <Form look="sl-form" label="What to sweep" send={() => can && run()}>
        <label class="sl-form-field">
          <span>metric</span>
          <select
            class="sl-select"
            value={metric}
            title={METRICS[metric].hint}
            onChange={(event) => setMetric(event.currentTarget.value as Metric)}
          >
            {Object.entries(METRICS).map(([name, { title }]) => (
              <option key={name} value={name}>
                {title}
              </option>
            ))}
          </select>
        </label>
        <Field
          label="coefficients"
          value={coefficients ?? suggested}
          wrong={chosenCoefficients ? "" : "Numbers, like −2, 0, 2"}
          onChange={setCoefficients}
        />
        <Field
          label="layers"
          value={layers}
          wrong={chosenLayers ? "" : `Layers from 0 to ${n_layers - 1}, like 0-4, 7`}
          onChange={setLayers}
        />
        <PromptSetField
          label="prompts"
          value={prompts}
          own={{ value: "own", words: "the panel’s prompt", chosen: own, choose: () => setOwn(true) }}
          onChange={(value) => {
            setOwn(false);
            setPrompts({ ...value, held_out: true });
          }}
        />
        <label class="sl-check" title="Rows of the same map with random directions of the same norm">
          <input
            type="checkbox"
            checked={control}
            onChange={(event) => setControl(event.currentTarget.checked)}
          />
          random control
        </label>
        <div class="sl-form-go">
          <button type="submit" class="sl-button sl-primary" {...able(can)}>
            Measure
          </button>
          <span class="sl-remark">{rows ? cost(rows, n, together(metric)) : ""}</span>
        </div>
      </Form>
      <Working asked={asked} what="The sweep" />
      <Failed error={asked?.error.value} />
      {question && shown && found.size > 0 ? (
        <Grid
          question={question}
          metric={shown}
          found={found}
          at={setting.stands ? texts?.place : undefined}
          onChoose={choose}
        />
      ) : (
        !asked && (
          <p class="sl-empty">
            The map appears here and fills while it is measured; the preview goes first whenever it needs the
            model.
          </p>
        )
      )}
      {shown && found.size > 0 && <p class="sl-remark">{METRICS[shown].hint}.</p>}
      {found.size > 0 && question?.direction !== direction && (
        <p class="sl-remark">
          The map is of {question?.direction}: Measure for one of {direction}.
        </p>
      )}
      {shown && metric !== shown && !busy && (
        <p class="sl-remark">
          The map shows {METRICS[shown].title}: Measure again for {METRICS[metric].title}.
        </p>
      )}
      <Failed error={setting.asked?.error.value} />
      <div role="status" class="sl-remark">
        {setting.stands && texts
          ? `The panel is set to ${pushed(texts.place)}. Ctrl+Z takes it back.`
          : ended(asked)}
      </div>
      {texts && <Texts key={JSON.stringify(texts.place)} store={store} question={texts} />}
    </>
  );
}

/** How a sweep came to its end; nothing while it goes on. */
function ended(asked: Asked<"sweep"> | null): string {
  const at = asked?.progress.value;
  if (asked?.status.value === "answered")
    return `The sweep is measured, n = ${asked.answer.value?.prompts} in each cell.`;
  if (asked?.status.value !== "cancelled") return "";
  return `Cancelled${at ? ` at ${at.done} of ${at.total} rows` : ""}. What was measured is kept: Measure goes on from there.`;
}

/** What a cell of the map does. */
const pushed = ({ name, layer, coefficient, control }: TextsQuestion["place"]) =>
  `${control ? "a random direction" : name} × ${signedShort(coefficient)} at layer ${layer}`;

interface GridProps {
  question: Asked<"sweep">["question"];
  metric: Metric;
  found: Map<string, SweepCell["stats"]>;
  at: Spot | undefined;
  onChoose(spot: Spot): void;
}

function Grid({ question, metric, found, at, onChoose }: GridProps) {
  const { layers, control } = question;
  const down = [...question.coefficients].sort((a, b) => b - a);
  const lines = [false, ...(control ? [true] : [])].flatMap((random) =>
    // at 0 a random direction is the baseline, too
    down.filter((c) => c !== 0 || !random).map((coefficient) => ({ coefficient, control: random })),
  );
  const spot = (row: number, column: number): Spot => ({
    layer: layers[column] ?? 0,
    coefficient: lines[row]?.coefficient ?? 0,
    control: lines[row]?.control ?? false,
  });
  const stat = (row: number, column: number) => found.get(spotKey(spot(row, column)))?.[metric];
  const value = (row: number, column: number) => stat(row, column)?.value ?? null;
  const scale = metricScale(
    metric,
    lines.flatMap((_, row) => layers.map((_, column) => value(row, column))),
  );
  const written = layers.length <= 16; // more columns have no room for numbers
  const row = at ? lines.findIndex((l) => l.coefficient === at.coefficient && l.control === at.control) : -1;
  const column = at ? layers.indexOf(at.layer) : -1;
  return (
    <Heatmap
      label={`${METRICS[metric].title} of ${question.direction} by coefficient and layer`}
      rows={{
        title: "coeff.",
        labels: lines.map((l) => `${l.control ? "random " : ""}${signedShort(l.coefficient)}`),
      }}
      columns={{ title: "layer", labels: layers.map(String) }}
      scale={scale}
      cell={(r, c) => {
        const number = value(r, c);
        return { value: number, ...(written && number !== null ? { text: digits(scale, number) } : {}) };
      }}
      detail={(r, c) => {
        const { layer, coefficient, control: random } = spot(r, c);
        const what = `layer ${layer}, ${random ? "random direction, " : ""}coefficient ${signedShort(coefficient)}`;
        return `${what}: ${statWords(metric, stat(r, c))}`;
      }}
      chosen={row >= 0 && column >= 0 ? [row, column] : undefined}
      onChoose={(r, c) => onChoose(spot(r, c))}
      cellWidth={written ? 41 : 22}
      narrowWidth={34}
      labelWidth={control ? 92 : 76}
    />
  );
}

/** What the model writes in a cell. */
function Texts({ store, question }: { store: Store; question: TextsQuestion }) {
  const { asked, answer } = useAsk(store, question);
  return (
    <section class="sl-texts" aria-label="Texts of the cell">
      <h4>
        {pushed(question.place)}
        {answer && answer.of > answer.texts.length && (
          <span class="sl-remark">
            {" "}
            the first {answer.texts.length} of {answer.of} prompts
          </span>
        )}
      </h4>
      <Working asked={asked} what="Writing the cell’s texts" />
      <Failed error={asked?.error.value} />
      <dl class="sl-texts-list">
        {answer?.texts.map((one, i) => (
          <Text key={i} one={one} refusals={store.info.value.refusals} />
        ))}
      </dl>
    </section>
  );
}

function Text({ one, refusals }: { one: CellText; refusals: readonly string[] }) {
  const { prompt, text, verdict, fault } = one;
  const { button, rule } = useVerdict(verdict, refusals);
  return (
    <div>
      <dt>{prompt}</dt>
      <dd>
        {button ?? <span class="sl-wrong">{fault}</span>} {text || <em>nothing</em>}
        {rule}
      </dd>
    </div>
  );
}

function Field(props: { label: string; value: string; wrong: string; onChange(value: string): void }) {
  return (
    <label class="sl-form-field">
      <span>{props.label}</span>
      <input
        class="sl-field"
        type="text"
        value={props.value}
        aria-invalid={props.wrong !== ""}
        onInput={(event) => props.onChange(event.currentTarget.value)}
      />
      {props.wrong && <span class="sl-wrong">{props.wrong}</span>}
    </label>
  );
}

/** Distinct recipes: coefficient 0 is the baseline at every layer. */
function size(layers: readonly number[], coefficients: readonly number[], control: boolean): number {
  const pushed = coefficients.filter((c) => c !== 0).length * layers.length * (control ? 2 : 1);
  return pushed + (coefficients.includes(0) ? 1 : 0);
}

function cost(rows: number, n: number | null, metrics: readonly Metric[]): string {
  const each =
    n === null
      ? `${rows} recipes for each prompt`
      : `${rows} recipes × ${n} ${n === 1 ? "prompt" : "prompts"}`;
  const writes = metrics.some((one) => ["refusal_rate", "repetition"].includes(one));
  return `${each}${writes ? ", with written answers" : ", one token each"}`;
}

export function signedShort(x: number): string {
  const text = String(Number(Math.abs(x).toPrecision(3)));
  return x === 0 ? "0" : `${x < 0 ? "−" : "+"}${text}`;
}
