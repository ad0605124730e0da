/** How few layers of ablation suffice: refusal against KL over subsets of layers. A click sets the panel to a subset. */

import { useState } from "preact/hooks";
import type { FrontierAnswer, FrontierQuestion, PromptSet, Question, SetLayers, Stat } from "../protocol";
import { able } from "./able";
import { Scatter, type ScatterPoint } from "./charts/Scatter";
import { Failed } from "./Failed";
import { Form } from "./Form";
import { PromptSetField } from "./PromptSetField";
import { bundled, count, layerWords } from "./prompts";
import { Segmented } from "./Segmented";
import type { Store } from "./store";
import { statWords } from "./sweeps";
import { useAction } from "./useAction";
import { useShared } from "./useShared";
import { Working } from "./Working";

const METHODS = [
  { value: "greedy", title: "One layer after another, always the one that lowers refusal most" },
  { value: "windows", title: "Every run of neighbouring layers" },
] as const;

const isFrontier = ({ kind }: Question) => kind === "frontier";

export function Frontier({ store, direction, open }: { store: Store; direction: string; open: boolean }) {
  const { n_layers } = store.info.value;
  const [method, setMethod] = useState<FrontierQuestion["method"]>("greedy");
  const [harmful, setHarmful] = useState<PromptSet>(bundled("harmful", 16, true));
  const [harmless, setHarmless] = useState<PromptSet>(bundled("harmless", 16, true));
  const setting = useAction<SetLayers>(store);
  const [chosen, setChosen] = useState<number | null>(null);
  const { asked, ask } = useShared<"frontier">(store, "frontier", open, isFrontier, (question) => {
    setMethod(question.method);
    setHarmful(question.harmful);
    setHarmless(question.harmless);
    setChosen(null);
  });
  const busy = asked?.status.value === "going";
  const [n, m] = [count(harmful), count(harmless)];
  const can = !busy && n !== 0 && m !== 0 && store.connection.value !== "gone";
  const subsets = (n_layers * (n_layers + 1)) / 2;
  const answer = asked?.answer.value;
  const shown = answer && pointsOf(answer, n_layers);
  const set = chosen !== null && setting.stands ? shown?.[chosen] : undefined;
  const said = set
    ? `The panel is set to ${set.where}. Ctrl+Z takes it back.`
    : asked?.status.value === "cancelled"
      ? "Cancelled: nothing of it is kept."
      : asked?.status.value === "answered"
        ? "The frontier is measured."
        : "";
  return (
    <>
      <Form
        look="sl-form"
        label="Which subsets of layers"
        send={() => {
          if (!can) return;
          setChosen(null);
          ask({ kind: "frontier", direction, method, harmful, harmless });
        }}
      >
        <div class="sl-form-field">
          <span aria-hidden="true">subsets</span>
          <Segmented
            label="Which subsets"
            options={METHODS}
            value={method}
            onChange={(next) => setMethod(next)}
          />
        </div>
        <PromptSetField
          label="should be answered"
          value={harmful}
          onChange={(value) => setHarmful({ ...value, held_out: true })}
        />
        <PromptSetField
          label="should not change"
          value={harmless}
          onChange={(value) => setHarmless({ ...value, held_out: true })}
        />
        <div class="sl-form-go">
          <button type="submit" class="sl-button sl-primary" {...able(can)}>
            Measure
          </button>
          <span class="sl-remark">
            {subsets} subsets{n !== null && m !== null ? ` × ${n + m} prompts, one token each` : ""}
          </span>
        </div>
      </Form>
      <Working asked={asked} what="The frontier" />
      <Failed error={asked?.error.value} />
      {shown && asked && (
        <Scatter
          label={`Refusal against KL of ablating ${asked.question.direction} at subsets of layers`}
          x={{ title: "KL on what should not change, nats", from: 0 }}
          y={{
            title: "share refused",
            from: 0,
            to: 1,
            format: (value) => `${Math.round(100 * value)} %`,
          }}
          points={shown}
          kinds={{
            marked: "no other subset is better in both",
            plain: "other subsets",
            faint: "no layer, every layer",
          }}
          line={frontierOf(shown)}
          {...(chosen === null || !setting.stands ? {} : { chosen })}
          onChoose={(i) => {
            setChosen(i);
            const layers = [...(shown[i]?.layers ?? [])];
            const { direction } = asked.question;
            setting.act({ kind: "frontier-set", direction, fingerprint: answer.fingerprint, layers });
          }}
        />
      )}
      {shown && asked?.question.direction !== direction && (
        <p class="sl-remark">
          The points are of {asked?.question.direction}: Measure for those of {direction}.
        </p>
      )}
      {!asked && (
        <p class="sl-empty">
          Each point will be a set of layers at which the direction is ablated: how much is still refused, and
          how far other answers shift. A click sets the panel to it.
        </p>
      )}
      <Failed error={setting.asked?.error.value} />
      <div role="status" class="sl-remark">
        {said}
      </div>
    </>
  );
}

interface Measured extends ScatterPoint {
  layers: readonly number[];
  where: string;
}

/** The points, those of the frontier last, so that no other hides them. */
function pointsOf({ subsets, baseline }: FrontierAnswer, n_layers: number): Measured[] {
  const told = (rate: Stat, cost: Stat) =>
    `${statWords("refusal_rate", rate, "still refused")}; ${statWords("kl", cost)}`;
  const found = subsets.map((subset): Measured => {
    const { layers, refusal, kl, on_frontier, unseen_refusal, unseen_kl, keeps } = subset;
    const all = layers.length === n_layers;
    const where = all ? "every layer" : `${layers.length === 1 ? "layer" : "layers"} ${layerWords(layers)}`;
    const unseen =
      unseen_refusal && unseen_kl ? `. On prompts not seen: ${told(unseen_refusal, unseen_kl)}` : "";
    return {
      layers,
      where,
      x: kl.value ?? 0,
      y: refusal.value ?? 0,
      label: `${where}: ${told(refusal, kl)}${unseen}${keeps ? ": as good as every layer" : ""}`,
      kind: on_frontier ? "marked" : all ? "faint" : "plain",
    };
  });
  const none: Measured = {
    layers: [],
    where: "no ablation",
    x: 0,
    y: baseline.value ?? 0,
    label: `no ablation: ${statWords("refusal_rate", baseline, "refused")}`,
    kind: "faint",
  };
  const rank = ({ kind }: Measured) => (kind === "marked" ? 1 : 0);
  return [none, ...found].sort((a, b) => rank(a) - rank(b));
}

/** The places of the frontier's points, from the least damage to the most. */
function frontierOf(points: readonly Measured[]): number[] {
  const x = (i: number) => points[i]?.x ?? 0;
  return points.flatMap(({ kind }, i) => (kind === "marked" ? [i] : [])).sort((a, b) => x(a) - x(b));
}
