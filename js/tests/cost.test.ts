import { afterEach, beforeEach, expect, test } from "vitest";
import type { SteeringState, ZoneAnswer } from "../src/protocol";
import { stretches, ticks, warning } from "../src/widget/cost";
import { frame, input, type Shown, say, show, state, traits } from "./fakes";

const ZONE: ZoneAnswer = {
  kl: [],
  repetition: [],
  budget: 0.1,
  costly: [
    [-6, -1.25],
    [0.5, 6],
  ],
  repeats: [[1.5, 6]],
};
const REACH = { min: -6, max: 6, step: 0.1 };

let panel: Shown;
beforeEach(() => {
  panel = show();
});
afterEach(() => panel.close());

const asked = (kind: string) => panel.model.asked.filter((ask) => ask.what.kind === kind);
const rest = () => new Promise((resolve) => setTimeout(resolve, 600));

test("ticks cover the slider from end to end, 0 exactly among them", () => {
  const all = ticks({ min: -2, max: 2, step: 0.05 });
  expect([all.length, all[0], all[8], all.at(-1)]).toEqual([17, -2, 0, 2]);
  const odd = ticks({ min: -0.3, max: 1.23456789, step: 0.05 });
  expect([odd.length, odd[0], odd.at(-1)]).toEqual([18, -0.3, 1.23456789]);
  expect(odd).toContain(0);
  expect([...odd].sort((a, b) => a - b)).toEqual(odd);
});

test("a number in a part that is too much is warned of in words, the worse thing first", () => {
  const words = (x: number, zone: ZoneAnswer | null = ZONE) => warning(zone, x, REACH)?.words ?? null;
  expect([words(0.4), words(0), words(2, null)]).toEqual([null, null, null]);
  expect(words(0.5)).toContain("From 0.5 up the KL is over 0.1 nats");
  expect(words(2)).toContain("From 1.5 up the text repeats itself");
  expect(words(-1.3)).toContain("From −1.3 down the KL");
  const holed: ZoneAnswer = {
    ...ZONE,
    costly: [
      [1, 2],
      [3, 6],
    ],
    repeats: [],
  };
  expect(words(1.5, holed)).toContain("From 1 to 2 the KL");
  expect(words(2.5, holed)).toBe(null);
  expect(words(4, { ...holed, costly: [[-6, 6]] })).toContain("All along this slider the KL");
});

test("a clamp at 0 ablates: 0 is warned of, too, and shaded", () => {
  const clamp: ZoneAnswer = { ...ZONE, costly: [[-6, 3]], repeats: [] };
  expect(warning(clamp, 0, REACH)?.words).toContain("From 3 down the KL is over 0.1 nats");
  expect(warning(clamp, 4, REACH)).toBe(null);
  expect(stretches(clamp)).toEqual([{ kind: "kl", from: -6, to: 3 }]);
});

test("costs and the zone are asked for at rest, and a move of the slider asks for the cost alone again", async () => {
  const { model, el } = panel;
  model.say(say.start(1));
  model.say(say.done(1));
  await frame();
  expect(asked("costs")).toEqual([]);
  await rest();
  await frame();
  expect(asked("costs").length).toBe(1);
  const zone = asked("zone");
  expect(zone[0]?.what).toMatchObject({
    prompt: "Hello",
    row: 0,
    steering: [{ coefficient: 0 }],
    temperature: 0,
    seed: 0,
    revision: 0,
    epoch: 0,
  });
  model.say({ kind: "answer", id: zone[0]?.id ?? "", answer: ZONE });
  await frame();
  expect(el.querySelectorAll(".sl-stretch").length).toBe(3);
  input(el.querySelector(".sl-slider input"), "1");
  await frame();
  const slider = el.querySelector(".sl-slider input");
  expect(slider?.getAttribute("aria-valuetext")).toContain("the KL is over 0.1 nats on this prompt");
  expect(el.querySelector(".sl-cost strong")?.textContent).toBe(" over 0.1");
  model.say(say.start(2));
  model.say(say.done(2));
  await rest();
  await frame();
  expect(asked("costs").length).toBe(2);
  expect(asked("zone").length).toBe(1);
  model.say({ kind: "answer", id: asked("costs")[1]?.id ?? "", answer: { kl: [1.104] } });
  await frame();
  expect(el.querySelector(".sl-cost")?.textContent).toBe("KL 1.10 over 0.1");
  const stretched = () => el.querySelectorAll(".sl-stretch").length;
  const scope = (name: string) =>
    [...el.querySelectorAll(".sl-segmented label")]
      .find((one) => one.textContent === name)
      ?.querySelector("input");
  scope("prompt")?.click();
  await frame();
  expect(stretched(), "it was of all tokens").toBe(0);
  scope("all")?.click();
  await frame();
  expect(stretched()).toBe(3);
  input(el.querySelector("textarea"), "Another prompt");
  await frame();
  expect(stretched(), "it was of the other prompt").toBe(0);
});

const ran = async (run: number) => {
  panel.model.say(say.start(run));
  panel.model.say(say.done(run));
  await rest();
  await frame();
};
const answer = async (kind: string, made: object) => {
  panel.model.say({ kind: "answer", id: asked(kind).at(-1)?.id ?? "", answer: made });
  await frame();
};
const cost = () => panel.el.querySelector<HTMLElement>(".sl-cost");
const shaded = () => panel.el.querySelectorAll(".sl-stretch").length;

test("a row that is not in hand is warned of, too, by its KL", async () => {
  const { model, el } = panel;
  const [row] = model.values.state.steering as [SteeringState];
  model.change("state", state({ steering: [row, { ...row, coefficient: 2 }], revision: 1 }));
  await ran(1);
  expect(asked("zone").length, "a zone is many passes: it is of the row in hand").toBe(1);
  await answer("costs", { kl: [null, 0.25], budget: 0.1 });
  const said = () =>
    [...el.querySelectorAll(".sl-row")].map((one) => one.querySelector("strong")?.textContent);
  expect(said()).toEqual([undefined, " over 0.1"]);
  const slider = () => el.querySelectorAll(".sl-slider input")[1]?.getAttribute("aria-valuetext");
  expect(slider()).toContain("The KL is over 0.1 nats on this prompt");
  model.change("state", state({ steering: [row, { ...row, coefficient: 2, enabled: false }], revision: 2 }));
  await frame();
  expect(said(), "it is off").toEqual([undefined, undefined]);
});

test("what Python changes in steps without a row is asked about anew, and the old numbers are dimmed till then", async () => {
  const { model, el } = panel;
  // the words are the same: it may be another vector of that name
  const beyond = ["add 'refusal' +3, norm kept at resid_pre of layer 2"];
  const python = (revision: number) => model.change("state", state({ beyond, revision }));
  python(1);
  await ran(1);
  await answer("costs", { kl: [0.5] });
  await answer("zone", ZONE);
  expect([cost()?.dataset.stale, shaded()]).toEqual(["false", 3]);
  python(2);
  await frame();
  expect([cost()?.dataset.stale, shaded()]).toEqual(["true", 0]);
  await ran(2);
  expect([asked("costs").length, asked("zone").length]).toEqual([2, 2]);
  expect([cost()?.dataset.stale, shaded()]).toEqual(["true", 0]);
  await answer("costs", { kl: [0.7] });
  await answer("zone", ZONE);
  expect([cost()?.dataset.stale, shaded()]).toEqual(["false", 3]);
  input(el.querySelector(".sl-slider input"), "1");
  await frame();
  const { steering, origin, edit } = model.runs.at(-1) ?? state();
  model.change("state", state({ beyond, steering, origin, edit, revision: 3 }));
  expect(shaded(), "a move of the slider changes no step without a row").toBe(3);
  await ran(3);
  expect([asked("costs").length, asked("zone").length]).toEqual([3, 2]);
});

test("numbers whose question failed are dimmed, and the reason stands there", async () => {
  const { model, el } = panel;
  await ran(1);
  await answer("costs", { kl: [0.5] });
  expect(cost()?.dataset.stale).toBe("false");
  input(el.querySelector(".sl-slider input"), "1");
  await ran(2);
  const error = { what: "the model is out of memory", hint: "Try again." };
  model.say({ kind: "failure", id: asked("costs").at(-1)?.id ?? "", error, gone: false });
  await frame();
  expect(cost()?.textContent).toContain("KL 0.50");
  expect(cost()?.dataset.stale).toBe("true");
  expect(el.textContent).toContain("The model is out of memory.");
});

test("texts of another temperature say nothing of this one", async () => {
  const { model } = panel;
  await ran(1);
  await answer("zone", ZONE);
  expect(shaded()).toBe(3);
  model.change("state", state({ temperature: 0.7, seed: 5, revision: 1 }));
  await frame();
  expect(shaded()).toBe(0);
  await ran(2);
  expect(asked("zone").at(-1)?.what).toMatchObject({ temperature: 0.7, seed: 5 });
});

test("on a server the costs are a job each: they are asked for by hand, for what is set now", async () => {
  const { model, el } = panel;
  model.change("info", { ...traits().info, backend: "ndif", device: "http://127.0.0.1:5001" });
  await ran(1);
  const counts = () => [asked("costs").length, asked("zone").length];
  expect(counts()).toEqual([0, 0]);
  const button = () => el.querySelector<HTMLButtonElement>('[aria-label^="Measure the KL of"]');
  button()?.click();
  await frame();
  expect(counts()).toEqual([1, 1]);
  expect(button()).toBeNull();
  model.say({ kind: "answer", id: asked("costs")[0]?.id ?? "", answer: { kl: [0.8] } });
  await frame();
  expect(el.querySelector(".sl-cost")?.textContent).toContain("KL 0.80");
  input(el.querySelector(".sl-slider input"), "1.25"); // what was measured is not of this
  await frame();
  expect(el.querySelector(".sl-cost")?.textContent ?? "").not.toContain("KL");
  expect(button()).toBeNull(); // it has not run yet
  await ran(2);
  expect(counts()).toEqual([1, 1]);
  button()?.click();
  await frame();
  const error = { what: "the server is gone", hint: "Try again." };
  model.say({ kind: "failure", id: asked("costs")[1]?.id ?? "", error, gone: false });
  await frame();
  expect(el.textContent).toContain("The server is gone.");
  button()?.click(); // it can be asked for again
  await frame();
  expect(asked("costs").length).toBe(3);
});
