/** Panels that stand in a cell again after its kernel went, and what each of them gets. */
import { afterEach, beforeEach, expect, test } from "vitest";
import { Heirs } from "../src/lab/heirs";
import { FakeModel, frame, input, type Shown, show, traits } from "./fakes";

let cell: HTMLElement;
beforeEach(() => {
  cell = document.createElement("div");
  document.body.append(cell);
});
afterEach(() => cell.remove());

function put(prompt?: string): Shown {
  const panel = show(new FakeModel(traits()));
  cell.append(panel.el);
  if (prompt) input(panel.el.querySelector("textarea"), prompt);
  return panel;
}
const clear = (...panels: Shown[]) => {
  for (const panel of panels) panel.close();
};
const set = ({ model }: Shown) => model.runs.map((run) => run.prompt);

test("every panel of a cell gets the setting of its place, once the cells have run and not before", async () => {
  const old = [put("one"), put("two")];
  const heirs = new Heirs(cell);
  clear(...old);
  const first = put();
  await frame();
  expect(set(first), "a later cell may still set something").toEqual([]);
  heirs.serveFrom(true);
  expect(set(first)).toEqual(["one"]);
  const second = put();
  await frame();
  expect([set(first), set(second)]).toEqual([["one"], ["two"]]);
  const third = put();
  await frame();
  expect(set(third)).toEqual([]);
  clear(first, second, third);
});

test("a cell that failed half-way is waited for, and its panels are set when it has run by hand", async () => {
  const old = [put("one"), put("two")];
  const heirs = new Heirs(cell);
  clear(...old);
  const half = put();
  heirs.serveFrom(false);
  expect(set(half)).toEqual(["one"]);
  clear(half);
  const again = [put(), put()];
  await frame();
  expect(again.map(set)).toEqual([["one"], ["two"]]);
  clear(...again);
  const later = put();
  await frame();
  expect(set(later), "that was all").toEqual([]);
  clear(later);
});

test("while its cells run once more, a cell that failed is waited for again", async () => {
  const old = put("one");
  const heirs = new Heirs(cell);
  clear(old);
  heirs.serveFrom(false);
  heirs.wait();
  const heir = put();
  await frame();
  expect(set(heir)).toEqual([]);
  heirs.serveFrom(true);
  expect(set(heir)).toEqual(["one"]);
  clear(heir);
});
