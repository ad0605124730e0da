import { afterEach, beforeEach, expect, test } from "vitest";
import type { DirectionInfo, FindAnswer, FindQuestion, MapCell, SteeringState } from "../src/protocol";
import { MOST_MB } from "../src/widget/bytes";
import { frame, input, type Shown, show, state } from "./fakes";

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

/** A row of a direction that is in use. */
const row = (direction: string): SteeringState => ({
  ...(state().steering[0] as SteeringState),
  direction,
  coefficient: 1,
});

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
  map: "m1",
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
  chose: [3, 2],
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
  const told = panel.el.querySelector('.sl-find [role="status"]');
  panel.model.say({ kind: "answer", id: last()?.id ?? "", answer: FOUND });
  await frame();
  expect(cell("1,1")?.dataset.marked).toBe("true");
  expect(cell("0,1")?.dataset.rejected).toBe("true");
  expect(cell("0,1")?.getAttribute("aria-label")).toBe(
    "position −2, layer 1: rejected, KL 0.300 > 0.1; bypass not needed, induce 2.00, KL 0.30",
  );
  expect(told?.textContent, "in a place that was there before").toContain(
    "12 + 11 prompts made the directions, 3 + 2 others chose among them",
  );
  const used = panel.el.querySelector('.sl-found [role="status"]');
  const before = panel.model.asked.length;
  cell("0,0")?.click();
  expect(panel.model.asked.length).toBe(before); // there is no direction there
  cell("1,0")?.click();
  await frame();
  const use = { kind: "find-use", name: "love", map: "m1", position: -1, layer: 0 };
  expect(last()?.what).toEqual({ ...use, keep: false });
  const taken = row("love −1, 0");
  panel.model.change("state", state({ steering: [taken], revision: 5 }));
  panel.model.say({ kind: "answer", id: last()?.id ?? "", answer: { direction: "love −1, 0" } });
  await frame();
  expect(cell("1,0")?.getAttribute("aria-selected")).toBe("true");
  expect(used?.textContent).toBe("In use: position −1 of layer 0. Ctrl+Z takes it back.");
  panel.model.change("state", state({ steering: [{ ...taken, coefficient: 2 }], revision: 6 }));
  await frame();
  expect(panel.el.textContent, "Ctrl+Z would take that back").toContain("In use: position −1 of layer 0.");
  expect(panel.el.textContent).not.toContain("takes it back");
  panel.model.change("state", state({ steering: [{ ...taken, coefficient: 0 }], revision: 7 }));
  await frame();
  expect(panel.el.textContent).not.toContain("In use");
  expect(cell("1,0")?.getAttribute("aria-selected")).toBe("false");
  panel.model.change("state", state({ steering: [taken], revision: 8 }));
  await frame();
  button("Keep it as love")?.click();
  expect(last()?.what).toEqual({ ...use, keep: true });
});

test("after a search the next one has a name that is free", async () => {
  await open();
  const name = () => panel.el.querySelector<HTMLInputElement>(".sl-find input")?.value;
  const [refusal] = panel.model.values.directions as [DirectionInfo];
  const found: DirectionInfo[] = [refusal];
  for (const next of ["direction 2", "direction 3"]) {
    button("Find")?.click();
    await frame();
    found.push({ ...refusal, name: name() ?? "" });
    panel.model.change("directions", found);
    panel.model.say({ kind: "answer", id: last()?.id ?? "", answer: { ...FOUND, name: name() } });
    await frame();
    expect(name()).toBe(next);
    expect(panel.el.textContent).not.toContain("takes the place");
  }
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
  panel.model.say({ kind: "answer", id: last()?.id ?? "", answer: FOUND });
  await frame();
  const before = panel.model.asked.length;
  button("Find")?.click();
  await frame();
  expect(panel.model.asked.length, "0.3 is no step of its field, and can be sent").toBe(before + 1);
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

test("what was typed comes back with its source, and its own undo is left to the browser", async () => {
  await open();
  const set = '.sl-find [aria-label="prompts that are refused"]';
  const select = panel.el.querySelector<HTMLSelectElement>(`${set} select`);
  const turn = async (source: string) => {
    if (select) select.value = source;
    select?.dispatchEvent(new Event("change", { bubbles: true }));
    await frame();
  };
  const box = () => panel.el.querySelector<HTMLTextAreaElement>(`${set} textarea`);
  await turn("text");
  input(box(), "one\ntwo");
  await frame();
  await turn("harmful");
  expect(box()).toBeNull();
  await turn("text");
  expect(box()?.value).toBe("one\ntwo");
  const undo = (field: Element | null) => {
    const event = new KeyboardEvent("keydown", { key: "z", ctrlKey: true, bubbles: true, cancelable: true });
    field?.dispatchEvent(event);
    return event.defaultPrevented;
  };
  expect(undo(box())).toBe(false);
  expect(panel.model.sent.some(({ kind }) => kind === "undo")).toBe(false);
  expect(undo(panel.el.querySelector("textarea")), "the prompt is a part of what is set").toBe(true);
  expect(panel.model.sent.at(-1)?.kind).toBe("undo");
});

test("a form is not sent while a number in it is wrong: the focus goes there", async () => {
  await open("+ from two");
  for (const box of panel.el.querySelectorAll(".sl-find textarea")) input(box, "Love");
  await frame();
  const layer = panel.el.querySelector<HTMLInputElement>('[aria-label="Layer of the direction"]');
  for (const text of ["9", "99"]) {
    input(layer, text);
    await frame();
  }
  layer?.dispatchEvent(new FocusEvent("blur")); // as a click on Find does
  await frame();
  button("Find")?.click();
  await frame();
  expect(panel.model.asked).toEqual([]);
  expect(document.activeElement).toBe(layer);
  input(layer, "3");
  await frame();
  layer?.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true, cancelable: true }));
  await frame();
  expect(last()?.what).toMatchObject({ kind: "find", layer: 3 });
});

test("a number that is wrong in what is folded away is shown", async () => {
  await open();
  const limit = panel.el.querySelector<HTMLInputElement>('[aria-label^="The largest KL"]');
  input(limit, "2000000");
  limit?.dispatchEvent(new FocusEvent("blur"));
  await frame();
  button("Find")?.click();
  await frame();
  expect(panel.model.asked).toEqual([]);
  expect(limit?.closest("details")?.open).toBe(true);
  expect(document.activeElement).toBe(limit);
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
  let value = "";
  const chosen = { get: () => value, set: (to: string) => (value = to), configurable: true };
  Object.defineProperty(field, "value", chosen);
  const choose = async (file: File) => {
    value = `C:\\fakepath\\${file.name}`;
    Object.defineProperty(field, "files", { value: [file], configurable: true });
    field?.dispatchEvent(new Event("change", { bubbles: true }));
    await frame();
  };
  await choose(new File(["x".repeat(1e6 * MOST_MB + 1)], "huge.csv"));
  expect(panel.el.querySelector('.sl-find [role="alert"]')?.textContent).toContain("Huge.csv has 7.0 MB");
  expect(button("Find")?.getAttribute("aria-disabled")).toBe("true");
  await choose(new File(["prompt\nHi\n"], "own.csv"));
  expect(panel.el.querySelector('.sl-find [role="alert"]')).toBeNull();
  expect(panel.el.textContent).toContain("own.csv was read");
  expect(field?.value, "so that the browser tells of the same file once it was corrected").toBe("");
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
