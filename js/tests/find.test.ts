import { afterEach, beforeEach, expect, test } from "vitest";
import type { FindAnswer, FindQuestion, MapCell } from "../src/protocol";
import { frame, input, type Shown, show } from "./fakes";

let panel: Shown;
beforeEach(() => {
  panel = show();
});
afterEach(() => panel.close());

const button = (text: string) =>
  [...panel.el.querySelectorAll<HTMLButtonElement>("button")].find(
    (b) => b.textContent?.startsWith(text) && !b.closest("[hidden]"),
  );
const last = () => panel.model.asked.at(-1);
const cell = (place: string) => panel.el.querySelector<HTMLElement>(`.sl-found [data-place="${place}"]`);

async function open(which = "+ find a new"): Promise<void> {
  button(which)?.click();
  await frame();
}

const at = (position: number, layer: number, more: Partial<MapCell> = {}): MapCell => ({
  position,
  layer,
  apart: 0.5,
  bypass: -1,
  induce: 2,
  kl: 0.01,
  rejected: "",
  ...more,
});
const FOUND: FindAnswer = {
  name: "love",
  cells: [
    at(-2, 0, {
      apart: null,
      bypass: null,
      induce: null,
      kl: null,
      rejected: "the two sides do not differ here",
    }),
    at(-2, 1, { bypass: null, kl: 0.3, rejected: "KL 0.300 > 0.1" }),
    at(-1, 0),
    at(-1, 1, { bypass: -3 }),
  ],
  scored: true,
  best: { position: -1, layer: 1 },
  trouble: null,
  relax: [],
  prompts: [12, 11],
};

test("a search begins with bundled prompts and the paper's selection, under a name that is free", async () => {
  await open();
  expect(document.activeElement).toBe(panel.el.querySelector(".sl-find input"));
  button("Find")?.click();
  await frame();
  expect(last()?.what).toMatchObject({
    kind: "find",
    name: "direction",
    method: "selection",
    positive: { source: "harmful", n: 64, held_out: false },
    negative: { source: "harmless" },
    asked: null,
    max_kl: 0.1,
    min_induce: 0,
  });
});

test("the map says its winner and why others fell; a click uses a cell, and it can be kept", async () => {
  await open();
  button("Find")?.click();
  await frame();
  panel.model.say({ kind: "answer", id: last()?.id ?? "", answer: FOUND });
  await frame();
  expect(cell("1,1")?.dataset.marked).toBe("true");
  expect(cell("0,1")?.dataset.rejected).toBe("true");
  expect(cell("0,1")?.getAttribute("aria-label")).toBe(
    "position −2, layer 1: rejected, KL 0.300 > 0.1; bypass not needed, induce 2.00, KL 0.30",
  );
  expect(panel.el.querySelector(".sl-found")?.textContent).toContain("12 prompts against 11");
  const before = panel.model.asked.length;
  cell("0,0")?.click();
  expect(panel.model.asked.length).toBe(before); // there is no direction there
  cell("1,0")?.click();
  await frame();
  const use = { kind: "find-use", name: "love", position: -1, layer: 0 };
  expect(last()?.what).toEqual({ ...use, keep: false });
  panel.model.say({ kind: "answer", id: last()?.id ?? "", answer: { direction: "love −1, 0" } });
  await frame();
  expect(cell("1,0")?.getAttribute("aria-selected")).toBe("true");
  button("Keep it as love")?.click();
  expect(last()?.what).toEqual({ ...use, keep: true });
});

test("where all fall, a click searches again with the threshold that is enough", async () => {
  await open();
  button("Find")?.click();
  await frame();
  const trouble = { what: "all 4 candidates were rejected", hint: "The nearest would pass with max_kl=0.3." };
  const relax = [{ max_kl: 0.3, min_induce: 0 }];
  panel.model.say({ kind: "answer", id: last()?.id ?? "", answer: { ...FOUND, best: null, trouble, relax } });
  await frame();
  expect(panel.el.querySelector('.sl-found [role="alert"]')?.textContent).toContain(
    "All 4 candidates were rejected",
  );
  button("Find again")?.click();
  await frame();
  expect(last()?.what).toMatchObject({ kind: "find", max_kl: 0.3, min_induce: 0 });
});

test("two prompts, typed, are a direction", async () => {
  await open("+ from two");
  expect(button("Find")?.getAttribute("aria-disabled")).toBe("true");
  const boxes = [...panel.el.querySelectorAll(".sl-find textarea")];
  input(boxes[0] ?? null, "Love");
  input(boxes[1] ?? null, "Hate");
  await frame();
  button("Find")?.click();
  await frame();
  expect(last()?.what).toMatchObject({
    method: "pair",
    name: "difference",
    layer: 2,
    positive: { source: "text", text: "Love" },
    negative: { source: "text", text: "Hate" },
  });
});

test("a file is read in the browser, and its text is sent", async () => {
  await open();
  const select = panel.el.querySelector<HTMLSelectElement>(
    '.sl-find [aria-label="prompts that are refused"] select',
  );
  if (select) select.value = "file";
  select?.dispatchEvent(new Event("change", { bubbles: true }));
  await frame();
  expect(button("Find")?.getAttribute("aria-disabled")).toBe("true");
  const field = panel.el.querySelector<HTMLInputElement>('.sl-find input[type="file"]');
  Object.defineProperty(field, "files", { value: [new File(["prompt\nHi\n"], "own.csv")] });
  field?.dispatchEvent(new Event("change", { bubbles: true }));
  await frame();
  button("Find")?.click();
  await frame();
  const what = last()?.what as FindQuestion;
  expect(what.positive).toMatchObject({
    source: "file",
    file: "own.csv",
    text: "prompt\nHi\n",
  });
});

test("an error stands in the form, and closing gives the focus back to its button", async () => {
  await open();
  button("Find")?.click();
  await frame();
  const error = { what: "the model refuses 0 of 2 harmful prompts", hint: "Give others." };
  panel.model.say({ kind: "failure", id: last()?.id ?? "", error, gone: false });
  await frame();
  expect(panel.el.querySelector('.sl-find [role="alert"]')?.textContent).toContain("refuses 0 of 2");
  button("Close")?.click();
  await frame();
  expect(document.activeElement).toBe(button("+ find a new"));
  await open();
  expect(panel.el.querySelector('.sl-find [role="alert"]')).not.toBeNull(); // what was there is kept
});
