/** What is set for all panels, told by steerlab's JupyterLab extension; here it is the test. */
import { afterEach, beforeEach, expect, test } from "vitest";
import { offerPreferences, type Preferences } from "../src/widget/jupyterlab";
import { frame, type Shown, show, state } from "./fakes";

let set: Preferences = {};
const tell = offerPreferences(() => set);
const change = (to: Preferences) => {
  set = to;
  tell();
};

let panel: Shown;
beforeEach(() => {
  panel = show();
});
afterEach(() => {
  panel.close();
  set = {};
});

const hellos = ({ model }: Shown) => model.sent.flatMap((m) => (m.kind === "hello" ? [m.control] : []));
const motion = () => panel.el.querySelector<HTMLElement>(".sl-app")?.dataset.motion;

test("a panel says at once what is set for all of them, and again when that changes", () => {
  expect(hellos(panel), "where nobody answers, nothing is set").toEqual([null]);
  change({ control: false });
  expect(hellos(panel)).toEqual([null, false]);
  change({ control: false, animation: "off" });
  expect(hellos(panel), "the control has not changed").toEqual([null, false]);
  const other = show();
  expect(hellos(other)).toEqual([false]);
  other.close();
  change({ control: true });
  expect(hellos(other), "it is closed").toEqual([false]);
});

test("whether a panel is touched the kernel decides, and the panel follows", async () => {
  change({ control: false });
  await frame();
  const box = panel.el.querySelector<HTMLInputElement>(".sl-check input");
  expect(box?.checked).toBe(true);
  panel.model.change("state", state({ control: false, revision: 1 }));
  await frame();
  expect(box?.checked).toBe(false);
  expect(panel.model.runs).toEqual([]);
});

test("animation goes and comes back while panels are shown", () => {
  expect(motion()).toBe("on");
  change({ animation: "off" });
  expect(motion()).toBe("off");
  change({ animation: "system" });
  expect(motion()).toBe("on");
});
