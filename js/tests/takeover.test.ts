/** After the end of a kernel: the way back, and what a new panel takes over from the one before it. */
import { afterEach, beforeEach, expect, test } from "vitest";
import type { PanelState } from "../src/protocol";
import { RUN_CELLS, type RunCells, type Setting, setAs, settingOf } from "../src/widget/host";
import { frame, input, type Shown, show, state } from "./fakes";

let panel: Shown;
beforeEach(() => {
  panel = show();
});
afterEach(() => panel.close());

const root = ({ el }: Shown) => el.querySelector(".sl-app") as Element;
const note = () => panel.el.querySelector(".sl-note")?.textContent;
const [row] = state().steering as [PanelState["steering"][number]];
const take = async (change: Partial<PanelState>, more: Partial<Setting> = {}) => {
  const before = state({ prompt: "Who?", seed: 3, control: false, revision: 40, origin: "old", ...change });
  setAs(root(panel), { model: "tiny", state: before, snapshots: [], ...more });
  await frame();
};

test("where the host can run cells, one button does, once, and says where they failed", async () => {
  const asked: RunCells[] = [];
  let end: (done: boolean) => void = () => undefined;
  const host = (event: Event) => {
    const { detail } = event as CustomEvent<RunCells>;
    event.preventDefault();
    if (!detail.run) return;
    asked.push(detail);
    detail.done = new Promise((resolve) => {
      end = resolve;
    });
  };
  document.addEventListener(RUN_CELLS, host);
  const { el } = panel;
  el.classList.add("jupyter-widgets-disconnected");
  await frame();
  const button = el.querySelector<HTMLButtonElement>(".sl-gone button");
  expect(button?.textContent).toBe("Run the cells up to this panel");
  button?.click();
  await frame();
  button?.click();
  expect(asked).toHaveLength(1);
  expect(button?.textContent).toBe("Running the cells…");
  end(false);
  await frame();
  expect(el.querySelector(".sl-gone")?.textContent).toContain("Not all of them ran.");
  document.removeEventListener(RUN_CELLS, host);
});

test("where the host cannot, it may know what a person can do instead", async () => {
  const host = (event: Event) => {
    (event as CustomEvent<RunCells>).detail.instead = "It comes back by itself.";
  };
  document.addEventListener(RUN_CELLS, host);
  panel.el.classList.add("jupyter-widgets-disconnected");
  await frame();
  expect(note()).toContain("The texts below are its last. It comes back by itself.");
  expect(panel.el.querySelector(".sl-gone button")).toBeNull();
  document.removeEventListener(RUN_CELLS, host);
});

test("a panel without a kernel gives what it is set to, and another one takes it as one change", async () => {
  input(panel.el.querySelector("textarea"), "Who are you?");
  panel.el.classList.add("jupyter-widgets-disconnected");
  await frame();
  const heir = show();
  const setting = settingOf(root(panel));
  expect([setting?.model, setting?.state.prompt]).toEqual(["tiny", "Who are you?"]);
  if (setting) setAs(root(heir), setting);
  expect(heir.model.runs.map((run) => run.prompt)).toEqual(["Who are you?"]);
  heir.close();
  expect(settingOf(root(panel)), "once more").toEqual(setting);
});

test("all is set that the new lab knows, and what it does not is said until something else is set", async () => {
  await take({
    steering: [
      { ...row, coefficient: 1.5 },
      { ...row, direction: "happy" },
      { ...row, direction: "happy" },
    ],
  });
  const [run, ...others] = panel.model.runs;
  expect(others).toEqual([]);
  expect(run).toMatchObject({ prompt: "Who?", seed: 3, control: false, revision: 0 });
  expect(run?.steering).toEqual([{ ...row, coefficient: 1.5 }]);
  expect(note()).toContain("Gone: the direction happy.");
  input(panel.el.querySelector("textarea"), "And now?");
  await frame();
  expect(note()).toBeUndefined();
});

test("what only Python can set again is named, until the change is undone", async () => {
  await take({ beyond: ["clamp fear to 2"] }, { snapshots: ["mild", "wild"] });
  expect(note()).toContain("Gone: the step clamp fear to 2; the snapshots mild, wild.");
  panel.model.change("state", { ...state(), revision: 1, undoable: true });
  await frame();
  panel.el.querySelector<HTMLElement>('[aria-label^="Undo"]')?.click();
  await frame();
  expect(note()).toBeUndefined();
  await take({});
  expect(note()).toBeUndefined();
});

test("another model gets the prompt and the sampling, and says so", async () => {
  await take({ steering: [{ ...row, coefficient: 2 }] }, { model: "large", snapshots: ["mild"] });
  expect(panel.model.runs[0]).toMatchObject({ prompt: "Who?", seed: 3 });
  expect(panel.model.runs[0]?.steering).toEqual([row]);
  expect(note()).toContain("was set for large, and this lab is of tiny");
  expect(note()).toContain("Gone: the snapshot mild.");
});
