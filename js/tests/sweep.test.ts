import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { DirectionInfo, SteeringState, SweepCell, SweepQuestion } from "../src/protocol";
import { bundled, count, layersOf, layerWords, numbers, typed, whole } from "../src/widget/prompts";
import { firstCoefficients, statWords, together } from "../src/widget/sweeps";
import { FakeModel, frame, input, type Shown, show, state, traits } from "./fakes";

describe("what a person types", () => {
  test("numbers, with either minus, without repeats", () => {
    expect(numbers("−2, -1; 0  1.5 1.5")).toEqual([-2, -1, 0, 1.5]);
    expect([numbers("1, x"), numbers(" "), numbers("Infinity")]).toEqual([null, null, null]);
  });

  test("layers, alone and from to", () => {
    expect(layersOf("all", 3)).toEqual([0, 1, 2]);
    expect(layersOf("5, 0-2", 6)).toEqual([0, 1, 2, 5]);
    expect([layersOf("6", 6), layersOf("3-1", 6), layersOf("-1", 6), layersOf("a", 6)]).toEqual(
      Array(4).fill(null),
    );
    expect(layerWords([0, 1, 2, 5, 7, 8])).toBe("0–2, 5, 7–8");
  });

  test("prompts are counted where that is known", () => {
    expect([
      count(typed("a\n\n b ")),
      count(bundled("harmful", 9)),
      count({ ...typed(""), source: "file" }),
      count(whole("a\nb")),
      count(whole(" \n")),
    ]).toEqual([2, 9, null, 1, 0]);
  });
});

test("what costs no more is measured along", () => {
  expect(together("kl")).toEqual(["refusal_score", "kl"]);
  expect(together("repetition")).toContain("refusal_rate");
  expect(together("cross_entropy")).toContain("cross_entropy");
});

test("a number is told with its n and its interval, once that is known", () => {
  expect(statWords("kl", { value: 0.5, low: 0.25, high: 1, n: 8 })).toBe("KL, nats 0.50 [0.25, 1.00], n = 8");
  expect(statWords("refusal_rate", { value: 0.5, low: null, high: null, n: 2 })).toBe(
    "refusal rate 50 %, n = 2",
  );
  const small = { value: 0.0021, low: 0, high: 0.00049, n: 8 };
  expect(statWords("kl", small), "not rounded to nothing").toBe("KL, nats 0.002 [0.00, 0.0005], n = 8");
  expect(statWords("kl", undefined)).toBe("KL, nats: not measured yet");
});

test("coefficients begin at what the slider reaches", () => {
  const [direction] = traits().directions;
  expect(firstCoefficients(direction)).toEqual([-6, -3, 0, 3, 6]); // |v| 2 in a stream of 8: 1.5 times it is 6
});

let panel: Shown;
beforeEach(() => {
  panel = show(new FakeModel(traits(28)));
});
afterEach(() => panel.close());

const tab = (name: string) => panel.el.querySelector<HTMLElement>(`[data-tab="${name}"]`);
const button = (text: string) =>
  [...panel.el.querySelectorAll<HTMLButtonElement>("button")].find(
    (b) => b.textContent === text && !b.closest("[hidden]"),
  );
const cell = (place: string) => panel.el.querySelector<HTMLElement>(`[data-place="${place}"].sl-heat-cell`);
const last = () => panel.model.asked.at(-1);

function cells(question: SweepQuestion, n: number): SweepCell[] {
  return question.layers.flatMap((layer) =>
    question.coefficients.map((coefficient) => ({
      layer,
      coefficient,
      control: false,
      stats: Object.fromEntries(
        question.metrics.map((m) => [m, { value: layer + coefficient, low: null, high: null, n }]),
      ),
    })),
  );
}

async function measure(): Promise<{ id: string; question: SweepQuestion }> {
  tab("sweep")?.click();
  await frame();
  button("Measure")?.click();
  await frame();
  return { id: last()?.id ?? "", question: last()?.what as SweepQuestion };
}

test("the panel's prompt is one prompt, of however many lines", async () => {
  panel.model.change("state", state({ prompt: "a\nb", revision: 1 }));
  const { question } = await measure();
  expect(question.prompts).toMatchObject({ source: "prompt", text: "a\nb" });
  expect(panel.el.textContent).toContain("recipes × 1 prompt");
});

test("a sweep asks for all layers and the panel's prompt unless told otherwise", async () => {
  const { question } = await measure();
  expect(question).toMatchObject({
    kind: "sweep",
    direction: "refusal",
    coefficients: [-6, -3, 0, 3, 6],
    metrics: ["refusal_score", "kl"],
    control: false,
    prompts: { source: "prompt", text: "Hello" },
  });
  expect(question.layers).toEqual(Array.from({ length: 28 }, (_, i) => i));
});

test("the map fills in, and a cell can be chosen before the end", async () => {
  const { model, el } = panel;
  const { id, question } = await measure();
  model.say({ kind: "part", id, part: { cells: cells(question, 2), direction: "f" } });
  await frame();
  expect(cell("0,27")?.getAttribute("aria-label")).toBe(
    "layer 27, coefficient +6: refusal score 33.00, n = 2",
  );
  expect(cell("0,0")?.textContent).toBe(""); // 28 columns have no room for numbers
  cell("0,27")?.click();
  await frame();
  const place = { name: "refusal", direction: "f", layer: 27, coefficient: 6, control: false };
  expect(model.asked.slice(-2).map((ask) => ask.what)).toMatchObject([
    { kind: "sweep-set", place },
    { kind: "sweep-texts", place, prompts: { text: "Hello" } },
  ]);
  const verdict = { refuses: true, phrase: "i cannot" };
  const texts = [{ prompt: "Hello", text: "<b>I cannot</b>", verdict }];
  model.say({ kind: "answer", id: last()?.id ?? "", answer: { texts, of: 1 } });
  await frame();
  expect(el.querySelector(".sl-texts dd")?.textContent).toContain("<b>I cannot</b>");
  const button = el.querySelector<HTMLElement>(".sl-texts .sl-verdict");
  expect(button?.textContent).toBe("refuses");
  button?.click();
  await frame();
  expect(el.querySelector(".sl-texts .sl-rule")?.textContent).toContain("It holds i cannot, so it counts");
});

test("what a sweep came to, and what a click set, is said in a place that was there before", async () => {
  const { model, el } = panel;
  const { id, question } = await measure();
  const said = el.querySelector('[data-view="grid"] > [role="status"]');
  expect(said?.textContent).toBe("");
  const more = { direction: "f", prompts: 4, reused: 0, rows: 1 };
  model.say({ kind: "answer", id, answer: { cells: cells(question, 4), ...more } });
  await frame();
  expect(said?.textContent).toBe("The sweep is measured, n = 4 in each cell.");
  cell("0,27")?.click();
  await frame();
  const [refusal] = model.values.state.steering as [SteeringState];
  model.change("state", state({ steering: [{ ...refusal, coefficient: 6 }], revision: 5 }));
  const set = model.asked.find(({ what }) => what.kind === "sweep-set");
  model.say({ kind: "answer", id: set?.id ?? "", answer: {} });
  await frame();
  expect(said?.textContent).toBe("The panel is set to refusal × +6 at layer 27. Ctrl+Z takes it back.");
  model.change("state", state({ steering: [refusal], revision: 6 }));
  await frame();
  expect(said?.textContent, "it was taken back").toBe("The sweep is measured, n = 4 in each cell.");
});

test("parts are put together: each has what is new since the one before", async () => {
  const { model } = panel;
  const { id, question } = await measure();
  const part = async (layers: number[], n: number) => {
    model.say({ kind: "part", id, part: { cells: cells({ ...question, layers }, n), direction: "f" } });
    await frame();
  };
  await part([0, 1], 1);
  await part([1, 2], 2);
  const said = [0, 1, 2, 3].map((column) =>
    cell(`0,${column}`)?.getAttribute("aria-label")?.split(", ").at(-1),
  );
  expect(said).toEqual(["n = 1", "n = 2", "n = 2", expect.stringContaining("not measured yet")]);
});

test("a sweep that is cancelled leaves what it has, and says how to go on", async () => {
  const { model, el } = panel;
  const { id, question } = await measure();
  model.say({ kind: "progress", id, done: 10, total: 40, text: "measuring" });
  model.say({ kind: "part", id, part: { cells: cells(question, 1), direction: "f" } });
  await frame();
  button("Cancel")?.click();
  await frame();
  expect(model.sent.at(-1)).toEqual({ kind: "cancel", id, everyone: true });
  expect(el.querySelector('[data-tab="sweep"]')).not.toBeNull();
  expect(el.textContent).toContain("Cancelled at 10 of 40 rows");
  expect(cell("0,0")?.dataset.sign).toBe("+");
  expect(button("Measure")?.getAttribute("aria-disabled")).toBe("false");
});

test("what cannot be measured is said beside its field", async () => {
  tab("sweep")?.click();
  await frame();
  const fields = () => [...panel.el.querySelectorAll<HTMLInputElement>('.sl-form input[type="text"]')];
  input(fields()[0] ?? null, "a lot");
  input(fields()[1] ?? null, "3-40");
  await frame();
  expect(panel.el.textContent).toContain("Layers from 0 to 27");
  expect(fields().map((field) => field.getAttribute("aria-invalid"))).toEqual(["true", "true"]);
  expect(button("Measure")?.getAttribute("aria-disabled")).toBe("true");
});

/** Ask for the frontier, as a person does. */
async function measureFrontier() {
  tab("sweep")?.click();
  await frame();
  panel.el.querySelectorAll<HTMLInputElement>('[aria-label="What is measured"] input')[1]?.click();
  await frame();
  button("Measure")?.click();
  await frame();
}

test("a point of the frontier sets the panel to its layers", async () => {
  const { model } = panel;
  await measureFrontier();
  const said = panel.el.querySelector('[data-view="frontier"] > [role="status"]');
  expect(last()?.what).toMatchObject({
    kind: "frontier",
    method: "greedy",
    harmful: { source: "harmful", n: 16, held_out: true },
  });
  const stat = (value: number) => ({ value, low: value, high: value, n: 4 });
  const more = { unseen_refusal: null, unseen_kl: null, keeps: false };
  const subsets = [
    { layers: [3, 4], refusal: stat(0.25), kl: stat(0.2), on_frontier: true, ...more },
    { layers: [9], refusal: stat(0.5), kl: stat(0.4), on_frontier: false, ...more },
  ];
  model.say({
    kind: "answer",
    id: last()?.id ?? "",
    answer: { fingerprint: "f1", subsets, baseline: stat(1) },
  });
  await frame();
  const point = panel.el.querySelector<SVGElement>('[aria-label^="layers 3–4:"]');
  expect(point?.dataset.kind).toBe("marked");
  point?.dispatchEvent(new MouseEvent("click", { bubbles: true }));
  const set = { kind: "frontier-set", direction: "refusal", fingerprint: "f1", layers: [3, 4] };
  expect(last()?.what).toEqual(set);
  const [refusal] = model.values.state.steering as [SteeringState];
  const there = { ...refusal, mode: "ablate" as const, coefficient: 1 };
  model.change("state", state({ steering: [there], revision: 5 }));
  model.say({ kind: "answer", id: last()?.id ?? "", answer: {} });
  await frame();
  expect(said?.textContent).toBe("The panel is set to layers 3–4. Ctrl+Z takes it back.");
  expect(panel.el.querySelector('[aria-label^="layers 3–4:"]')?.getAttribute("aria-selected")).toBe("true");
  model.change("state", state({ steering: [refusal], revision: 6 }));
  await frame();
  expect(panel.el.textContent).not.toContain("The panel is set to");
  expect(panel.el.querySelector('[aria-label^="layers 3–4:"]')?.getAttribute("aria-selected")).toBe("false");
  expect(button("Key layers"), "no few layers were seen to be enough").toBeUndefined();
});

test("once the frontier has found few layers that are enough, they are a preset", async () => {
  const { model } = panel;
  await measureFrontier();
  const stat = { value: 0, low: 0, high: 0, n: 4 };
  const subsets = [[3, 4, 5], [4, 5], [5]].map((layers) => ({
    layers,
    refusal: stat,
    kl: stat,
    on_frontier: true,
    unseen_refusal: stat,
    unseen_kl: stat,
    keeps: layers.length > 1,
  }));
  model.say({ kind: "answer", id: last()?.id ?? "", answer: { fingerprint: "f1", subsets, baseline: stat } });
  await frame();
  button("Key layers")?.click();
  await frame();
  expect(button("Key layers")?.getAttribute("aria-pressed")).toBe("true");
  const cells = model.runs.at(-1)?.steering[0]?.cells ?? [];
  expect(new Set(cells.map(([layer]) => layer))).toEqual(new Set([4, 5]));
  expect(cells.length).toBe(6);
  const [other] = model.values.directions;
  model.change("directions", [{ ...other, name: "refusal", norm: 1, fingerprint: "f2" } as DirectionInfo]);
  await frame();
  expect(button("Key layers"), "they are of another vector of this name").toBeUndefined();
});

test("views have a map in common, with the form that asked for it, and one can go on where another began", async () => {
  const { model } = panel;
  tab("sweep")?.click();
  await frame();
  const [coefficients, layers] = panel.el.querySelectorAll<HTMLInputElement>('.sl-form input[type="text"]');
  input(coefficients ?? null, "−1, 1");
  input(layers ?? null, "3-5, 9");
  await frame();
  button("Measure")?.click();
  await frame();
  const id = last()?.id ?? "";
  const question = last()?.what as SweepQuestion;
  const second = panel.again();
  second.el.querySelector<HTMLElement>('[data-tab="sweep"]')?.click();
  await frame();
  expect(last()?.id, "nothing was asked again").toBe(id);
  const fields = [...second.el.querySelectorAll<HTMLInputElement>('.sl-form input[type="text"]')];
  expect(fields.map(({ value }) => value)).toEqual(["−1, 1", "3–5, 9"]);
  model.say({
    kind: "answer",
    id,
    answer: { cells: cells(question, 4), direction: "f", prompts: 4, reused: 0, rows: 32 },
  });
  await frame();
  for (const { el } of [panel, second]) expect(el.querySelectorAll(".sl-heat-cell")).toHaveLength(8);
  second.close();
});

test("a page that is loaded again takes the newest map from the kernel, and only where it is looked at", async () => {
  const { question } = await measure();
  panel.close();
  panel = show(new FakeModel(traits(28)));
  const asking = [{ kind: "ask" as const, id: "sweep", what: { ...question, layers: [0, 1] }, join: false }];
  const { state, result } = traits(28);
  panel.model.say({ kind: "snapshot", run: 0, seq: 0, pending: [], state, result, asking });
  await frame();
  expect(panel.model.asked).toEqual([]);
  tab("sweep")?.click();
  await frame();
  expect(last()).toMatchObject({ join: true, what: { kind: "sweep", layers: [0, 1] } });
});

test("a map that the kernel does not keep any more leaves the form, without a word of an error", async () => {
  const { question } = await measure();
  panel.close();
  panel = show(new FakeModel(traits(28)));
  const asking = [{ kind: "ask" as const, id: "sweep", what: question, join: false }];
  const { state, result } = traits(28);
  panel.model.say({ kind: "snapshot", run: 0, seq: 0, pending: [], state, result, asking });
  tab("sweep")?.click();
  await frame();
  const [joined] = panel.model.asked;
  expect(joined?.join).toBe(true);
  const error = { what: "the answer is not kept any more", hint: "Ask again." };
  panel.model.say({ kind: "failure", id: joined?.id ?? "", error, gone: true });
  await frame();
  expect(panel.el.textContent).not.toContain(error.what);
  expect(panel.el.querySelectorAll(".sl-heat-cell")).toHaveLength(0);
  const again = panel.model.asked.length;
  await measure();
  expect(panel.model.asked.slice(again).map((ask) => ask.join)).toEqual([false]);
});
