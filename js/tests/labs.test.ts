/** Which panel of a notebook is meant, and what it tells of itself. */
import type { Cell } from "@jupyterlab/cells";
import type { INotebookTracker, NotebookPanel } from "@jupyterlab/notebook";
import { afterEach, beforeEach, expect, test } from "vitest";
import {
  addSide,
  cellOf,
  dropSide,
  labsOf,
  lastUsed,
  notebookOf,
  type Side,
  watchUse,
} from "../src/lab/labs";
import { aboutOf } from "../src/widget/host";
import { FakeModel, frame, input, type Shown, show, traits } from "./fakes";

const opened: Shown[] = [];
let notebook: NotebookPanel;
let cells: Cell[];
let side: Side;

/** A panel of the widget with this id. */
function panel(widget: string, at: Element, model = new FakeModel(traits())): Shown {
  model.values.page = `steerlab-static-${widget}`;
  const made = show(model);
  opened.push(made);
  at.append(made.el);
  return made;
}
const root = ({ el }: Shown) => el.querySelector(".sl-app") as Element;
const press = (one: Shown) => root(one).dispatchEvent(new Event("pointerdown", { bubbles: true }));

beforeEach(() => {
  const node = document.createElement("div");
  cells = [0, 1, 2].map(() => ({ node: document.createElement("div") }) as unknown as Cell);
  node.append(...cells.map((cell) => cell.node));
  document.body.append(node);
  notebook = { node, content: { widgets: cells } } as unknown as NotebookPanel;
  side = { notebook, node: document.createElement("div"), cell: undefined };
  document.body.append(side.node);
});
afterEach(() => {
  dropSide(side);
  for (const one of opened.splice(0)) one.close();
  document.body.replaceChildren();
});

const tracker = () => {
  const find = (is: (one: NotebookPanel) => boolean) => [notebook].find(is);
  return { find } as unknown as INotebookTracker;
};
const at = (i: number) => cells[i]?.node as HTMLElement;

test("the panel that was used last is meant, and before any was, the last one", () => {
  watchUse(tracker());
  const first = panel("a", at(0));
  panel("b", at(1));
  expect(lastUsed(notebook)?.about.widget).toBe("b");
  press(first);
  expect(lastUsed(notebook)?.about.widget).toBe("a");
});

test("a panel whose kernel is gone is meant by nobody who asks for a live one", async () => {
  const live = panel("a", at(0));
  const gone = panel("b", at(1));
  gone.el.classList.add("jupyter-widgets-disconnected");
  await frame();
  expect(lastUsed(notebook)?.root).toBe(root(live));
  expect(lastUsed(notebook, false)?.root).toBe(root(gone));
});

test("beside its notebook a panel belongs to it, and to the cell that shows the same one", () => {
  addSide(side);
  const inCell = panel("a", at(1));
  const beside = panel("a", side.node);
  expect(notebookOf(tracker(), root(beside))).toBe(notebook);
  expect(cellOf(notebook, root(beside))).toBe(cells[1]);
  expect(labsOf(notebook).map((one) => one.root)).toEqual([root(inCell)]);
  const alone = panel("b", side.node);
  expect(labsOf(notebook).map((one) => [one.root, one.cell])).toEqual([
    [root(inCell), cells[1]],
    [root(alone), undefined],
  ]);
});

test("a cell that lost the panel beside it, as it failed, is still the panel's", () => {
  addSide({ ...side, cell: cells[2] });
  const beside = panel("a", side.node);
  expect(cellOf(notebook, root(beside))).toBe(cells[2]);
});

test("the recipe comes as the first form of the kernel's, of what is set by now", async () => {
  const model = new FakeModel(traits());
  const shown = panel("a", at(0), model);
  input(shown.el.querySelector("textarea"), "Who are you?");
  const code = aboutOf(root(shown))?.code();
  expect(
    model.runs.map((run) => run.prompt),
    "what was typed is sent first",
  ).toEqual(["Who are you?"]);
  const [ask] = model.asked.filter(({ what }) => what.kind === "code");
  const form = { title: "", language: "python" as const, missing: null };
  const forms = [
    { ...form, name: "steerlab", source: "recipe = 1" },
    { ...form, name: "nnsight", source: "with model" },
  ];
  model.say({ kind: "answer", id: ask?.id ?? "", answer: { forms } });
  expect(await code).toBe("recipe = 1");
});

test("why there is no code is told in words", async () => {
  const model = new FakeModel(traits());
  const shown = panel("a", at(0), model);
  const code = aboutOf(root(shown))?.code();
  const [ask] = model.asked.filter(({ what }) => what.kind === "code");
  const missing = { what: "a step has no name", hint: "Name it." };
  const forms = [{ name: "steerlab", title: "", language: "python" as const, source: "", missing }];
  model.say({ kind: "answer", id: ask?.id ?? "", answer: { forms } });
  await expect(code).rejects.toThrow("A step has no name. Name it.");
  shown.el.classList.add("jupyter-widgets-disconnected");
  await frame();
  await expect(aboutOf(root(shown))?.code()).rejects.toThrow("The kernel is gone");
});
