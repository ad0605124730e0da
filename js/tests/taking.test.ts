/** Files that something else in the page gives to a panel, as JupyterLab's viewer of recipes does. */
import { afterEach, beforeEach, expect, test } from "vitest";
import { giveFiles, goToDirections } from "../src/widget/host";
import { type FakeModel, frame, type Shown, show } from "./fakes";

let panel: Shown;
beforeEach(() => {
  panel = show();
});
afterEach(() => panel.close());

const root = () => panel.el.querySelector(".sl-app") as HTMLElement;
const FILE = new File(["{}"], "push.steer.json");

async function asked(files = [FILE]) {
  const done = giveFiles(root(), files);
  await frame();
  const ask = panel.model.asked.find(({ what }) => what.kind === "load");
  return { done, id: ask?.id ?? "", what: ask?.what };
}

test("a file is asked about as one that was chosen, and its giver hears that it was taken", async () => {
  const { done, id, what } = await asked();
  expect(what).toMatchObject({
    kind: "load",
    files: [{ name: "push.steer.json", data: btoa("{}") }],
    site: null,
  });
  panel.model.say({ kind: "answer", id, answer: { direction: "", steps: 2, question: null } });
  expect(await done).toBeNull();
});

test("why it could not be taken is said to its giver, and not in the panel", async () => {
  const { done, id } = await asked();
  const error = { what: "the direction has d_model 32, and the model has 16", hint: "Find it again." };
  panel.model.say({ kind: "failure", id, error, gone: false });
  expect(await done).toEqual(error);
  await frame();
  expect(panel.el.querySelector('[role="alert"]')).toBeNull();
});

test("what a file leaves open is asked in the panel alone", async () => {
  const { done, id } = await asked();
  const open = {
    asks: "site",
    what: "the file names no site",
    points: [],
    layers: [],
    positions: [],
    features: 0,
  };
  panel.model.say({ kind: "answer", id, answer: { direction: "", steps: null, question: open } });
  expect(await done).toMatchObject({ what: open.what });
});

test("a panel without a kernel says so at once", async () => {
  panel.el.classList.add("jupyter-widgets-disconnected");
  await frame();
  expect(await giveFiles(root(), [FILE])).toMatchObject({ what: "the kernel of the panel is gone" });
});

test("a file too large for the kernel's messages is not sent", async () => {
  const large = new File([new Uint8Array(8e6)], "large.steer.json");
  expect(await giveFiles(root(), [large])).toEqual({
    what: expect.stringContaining("8.0 MB"),
    hint: "Read it in a cell: lab.recipe = sl.Recipe.load(path)",
  });
  expect(panel.model.asked.filter(({ what }) => what.kind === "load")).toEqual([]);
});

test("a panel of an older steerlab, which does not listen, is told as one", async () => {
  expect(await giveFiles(document.createElement("div"), [FILE])).toMatchObject({
    what: expect.stringContaining("older"),
  });
});

test("the keys go to the directions, where undo is the panel's", async () => {
  goToDirections(root());
  const key = new KeyboardEvent("keydown", { key: "z", ctrlKey: true, bubbles: true });
  document.activeElement?.dispatchEvent(key);
  expect((panel.model as FakeModel).sent.at(-1)).toEqual({ kind: "undo" });
});
