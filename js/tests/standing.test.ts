/** What a panel says of itself for the status bar of JupyterLab, and how it comes when it is called from there. */
import { afterEach, beforeEach, expect, test } from "vitest";
import { panelsOf } from "../src/lab/heirs";
import { inFull, inShort, Standings } from "../src/lab/standings";
import type { Job } from "../src/protocol";
import { call } from "../src/widget/jupyterlab";
import { frame, type Shown, say, show, traits } from "./fakes";

const standings = new Standings(() => undefined);

let panel: Shown;
beforeEach(() => {
  panel = show();
});
afterEach(() => panel.close());

const root = ({ el }: Shown) => el.querySelector(".sl-app") as HTMLElement;
const stands = (one = panel) => standings.newest(panelsOf(one.el))?.standing;
const says = () => {
  const standing = stands();
  return standing && inShort(standing).join(" · ");
};
const job = (more: Partial<Job>) =>
  panel.model.say({ kind: "job", stage: "queued", position: null, seconds: 0, usual: null, ...more });
const remote = () =>
  panel.model.change("info", { ...traits().info, name: "org/tiny-2B", backend: "ndif", device: "http://x" });

test("what the header says is said in the status bar, from the first moment to the last", async () => {
  const header = () => panel.el.querySelector(".sl-status")?.textContent;
  const both = async () => {
    await frame();
    return [says(), header()];
  };
  expect(await both()).toEqual(["tiny · here · ready", "ready"]);
  panel.model.say(say.start(1));
  expect(await both()).toEqual(["tiny · here · generating", "generating"]);
  panel.model.say(say.failed(1, "no"));
  expect(await both()).toEqual(["tiny · here · error", "error"]);
  panel.model.closed = true;
  panel.el.classList.add("jupyter-widgets-disconnected");
  expect(await both()).toEqual(["tiny · here · kernel gone", "kernel gone"]);
  panel.close();
  expect(stands()).toBeUndefined();
});

test("of a server it says the stage, in a queue the place, and in full where and what a click does", async () => {
  remote();
  job({ position: 3 });
  expect(says()).toBe("tiny-2B · NDIF · queue 3");
  const told = stands();
  expect(told && inFull(told)).toBe(
    "org/tiny-2B on http://x: in the queue, number 3. Click to list its jobs.",
  );
  job({ stage: "running" });
  expect(says()).toBe("tiny-2B · NDIF · running on the server");
  job({ stage: "" });
  expect(says()).toBe("tiny-2B · NDIF · ready");
});

test("of several panels it is the one that told last, and none where a notebook has none", () => {
  const one = show();
  expect(standings.newest(panelsOf(document.body))?.root).toBe(root(one));
  panel.model.say(say.start(1));
  expect(standings.newest(panelsOf(document.body))?.root).toBe(root(panel));
  expect(standings.newest([root(one)])?.root).toBe(root(one));
  one.close();
  expect(standings.newest([])).toBeNull();
});

test("a panel that is called takes the keys, and gives them on", async () => {
  await frame();
  call(root(panel));
  const whole = document.activeElement as HTMLElement;
  expect(whole.getAttribute("aria-label")).toBe("Steering lab");
  panel.el.querySelector("textarea")?.focus();
  expect(whole.hasAttribute("tabindex"), "a click into it is the notebook's again").toBe(false);
});

test("where the model is on a server, a call opens the list of jobs and goes into it, also a second time", async () => {
  remote();
  await frame();
  for (let i = 0; i < 2; i++) {
    call(root(panel));
    await frame();
    const list = document.activeElement as HTMLElement;
    expect([list.getAttribute("aria-label"), list.hidden]).toEqual(["Jobs on the server", false]);
    list.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape", bubbles: true }));
    await frame();
    expect(list.hidden).toBe(true);
  }
});
