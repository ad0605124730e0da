import { afterEach, beforeEach, expect, test } from "vitest";
import type { ZoneAnswer } from "../src/protocol";
import { stretches, ticks, warning } from "../src/widget/cost";
import { frame, input, type Shown, say, show } from "./fakes";

const ZONE: ZoneAnswer = {
  kl: [],
  repetition: [],
  budget: 0.1,
  kl_from: [-1.25, 0.5],
  repeats_from: [null, 1.5],
};

let panel: Shown;
beforeEach(() => {
  panel = show();
});
afterEach(() => panel.close());

const asked = (kind: string) => panel.model.asked.filter((ask) => ask.what.kind === kind);
const rest = () => new Promise((resolve) => setTimeout(resolve, 600));

test("ticks cover the slider on both sides and leave 0 out", () => {
  const all = ticks({ min: -2, max: 2, step: 0.05 });
  expect([all.length, all[0], all.at(-1)]).toEqual([16, -2, 2]);
  expect(all).not.toContain(0);
  expect(ticks({ min: 0, max: 1, step: 0.05 }).every((x) => x > 0)).toBe(true);
});

test("a number past a threshold is warned of in words, the worse thing first", () => {
  expect(warning(ZONE, 0.4)).toBe(null);
  expect(warning(ZONE, 0)).toBe(null);
  expect(warning(null, 2)).toBe(null);
  expect(warning(ZONE, 0.5)?.words).toContain("From 0.5 on the KL passes 0.1 nats");
  expect(warning(ZONE, 2)?.words).toContain("From 1.5 on the text repeats itself");
  expect(warning(ZONE, -1.3)?.words).toContain("From −1.3 on the KL");
});

test("what lies past a threshold is shaded, to the end of the track", () => {
  expect(stretches(ZONE, { min: -2, max: 2, step: 0.1 })).toEqual([
    { kind: "kl", from: -2, to: -1.25 },
    { kind: "kl", from: 0.5, to: 2 },
    { kind: "repeats", from: 1.5, to: 2 },
  ]);
  expect(stretches(ZONE, { min: -1, max: 0.4, step: 0.1 })).toEqual([]);
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
  expect(zone[0]?.what).toMatchObject({ prompt: "Hello", row: 0, steering: [{ coefficient: 0 }] });
  model.say({ kind: "answer", id: zone[0]?.id ?? "", answer: ZONE });
  await frame();
  expect(el.querySelectorAll(".sl-stretch").length).toBe(3);
  input(el.querySelector(".sl-slider input"), "1");
  await frame();
  const slider = el.querySelector(".sl-slider input");
  expect(slider?.getAttribute("aria-valuetext")).toContain("the KL passes 0.1 nats on this prompt");
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
  input(el.querySelector("textarea"), "Another prompt");
  await frame();
  expect(el.querySelectorAll(".sl-stretch").length).toBe(0); // it was of the other prompt
});
