import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { KernelMessage, PanelState, PaneResult } from "../src/protocol";
import { neighbours } from "../src/widget/ahead";
import { Store } from "../src/widget/store";
import { FakeModel, frame, input, NO_END, type Shown, say, show, state, text, traits } from "./fakes";

const result = (...tokens: string[]): PaneResult => ({ ...NO_END, finish: "stop", tokens });

/** What the kernel has made: the steered text at a coefficient is a word for it. */
function ready(of: PanelState, ...coefficients: number[]) {
  const texts = coefficients.map((coefficient) => ({
    coefficient,
    panes: { steered: result("at ", String(coefficient)), control: result("random ", String(coefficient)) },
  }));
  return { kind: "ready", state: of, row: 0, texts } as const;
}

const SHOWN = ["baseline", "steered", "control"];

function resting(model: FakeModel, run = 1): void {
  model.say(say.start(run, SHOWN, [], SHOWN));
  model.say(say.tokens(run, 1, { baseline: ["base"], steered: ["base"], control: ["base"] }));
  model.say(say.done(run));
}

describe("which neighbours", () => {
  const slider = { min: -1, max: 1, step: 0.25 };

  test("the value itself, then the nearest steps, widening", () => {
    expect(neighbours(0.25, slider, 6)).toEqual([0.25, 0, 0.5, -0.25, 0.75, -0.5]);
  });

  test("all of the slider and no more", () => {
    expect(neighbours(1, slider, 99).length).toBe(9);
    expect(neighbours(0.3, slider, 3)).toEqual([0.3, 0.25, 0.5]);
  });

  test("a step's number is the one that the slider gives", () => {
    const fine = { min: -6, max: 6, step: 0.1 };
    expect(neighbours(0, fine, 8)).toEqual([0, -0.1, 0.1, -0.2, 0.2, -0.3, 0.3, -0.4]);
  });
});

describe("asking", () => {
  beforeEach(() => {
    vi.useFakeTimers();
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  function lab(ahead = 4): { model: FakeModel; store: Store; scrubs: () => number[][] } {
    const values = traits();
    values.info.ahead = ahead;
    const model = new FakeModel(values);
    const store = new Store(model.any);
    const scrubs = () => model.sent.flatMap((m) => (m.kind === "scrub" ? [m.coefficients] : []));
    return { model, store, scrubs };
  }

  test("once a run is done and nothing goes on, what is not ready is asked for", () => {
    const { model, scrubs } = lab();
    expect(scrubs()).toEqual([]);
    resting(model);
    vi.advanceTimersByTime(1000);
    expect(scrubs()).toEqual([[0, -0.1, 0.1, -0.2]]);
    model.say(ready(state(), 0, -0.1));
    resting(model, 2);
    vi.advanceTimersByTime(1000);
    expect(scrubs()[1]).toEqual([0.1, -0.2]);
    model.say(ready(state(), 0.1, -0.2));
    resting(model, 3);
    vi.advanceTimersByTime(1000);
    expect(scrubs().length).toBe(2);
  });

  test("not while a person moves, types or has stopped, and not where it is off", () => {
    const { model, store, scrubs } = lab();
    resting(model);
    store.editRow(0, { coefficient: 1 });
    store.editRow(0, { coefficient: 2 });
    vi.advanceTimersByTime(100);
    store.edit({ prompt: "H" }, "typing");
    vi.advanceTimersByTime(300);
    expect(scrubs()).toEqual([]);
    const off = lab(0);
    resting(off.model);
    vi.advanceTimersByTime(1000);
    expect(off.scrubs()).toEqual([]);
  });

  test("a kernel that takes its time over them is not taken for a silent one", () => {
    const { model, store } = lab();
    resting(model);
    vi.advanceTimersByTime(10_000);
    expect(store.connection.value).toBe("live");
  });

  test("what is ready for one slider is not shown at another", () => {
    const { model, store } = lab();
    resting(model);
    model.say(ready(state(), 0.1));
    expect(store.ahead.marks(store.state.value, 0)).toEqual([0.1]);
    expect(store.ahead.marks(store.state.value, 1)).toEqual([]);
    model.say(ready(state({ prompt: "Another" }), 0.2));
    expect(store.ahead.marks(store.state.value, 0)).toEqual([0.1]);
    store.edit({ prompt: "New" });
    expect(store.ahead.marks(store.state.value, 0)).toEqual([]);
    model.change("state", state({ revision: 9 })); // from elsewhere: perhaps with steps that no row shows
    expect(store.ahead.marks(store.state.value, 0)).toEqual([]);
  });
});

describe("a drag", () => {
  let panel: Shown;
  const slider = () => panel.el.querySelector(".sl-slider input");
  const last = () => panel.model.runs.at(-1) as PanelState;
  /** What was sent of a move to a text that is ready, which is drawn first. */
  const sent = async (coefficient: number) => {
    await vi.waitFor(() => expect(last()?.steering[0]?.coefficient).toBe(coefficient));
    return last();
  };
  const texts = () => ["baseline", "steered", "control"].map((id) => text(panel.el, id));
  const confirm = (run: number, of: PanelState, more: ReturnType<typeof result>) =>
    panel.model.say(
      say.start(run, [], [], SHOWN, { origin: of.origin, edit: of.edit, ready: { steered: more } }),
    );

  beforeEach(async () => {
    panel = show();
    resting(panel.model);
    panel.model.say(ready(state(), 0.1, 0.2, 0.3));
    await frame();
  });
  afterEach(() => panel.close());

  test("each coefficient that is ready is marked", () => {
    expect(panel.el.querySelector(".sl-ready path")?.getAttribute("d")?.match(/M/g)?.length).toBe(3);
    expect(slider()?.getAttribute("title")).toContain("ready");
  });

  test("shows the text within a frame, before the kernel says anything, and the baseline stays", async () => {
    input(slider(), "0.2");
    expect(panel.model.runs).toEqual([]); // it is told afterwards
    await new Promise((resolve) => requestAnimationFrame(resolve));
    expect(texts()).toEqual(["base", "at 0.2", "random 0.2"]);
    confirm(2, await sent(0.2), result("at ", "0.2"));
    panel.model.say(say.done(2));
    await frame();
    expect(texts()).toEqual(["base", "at 0.2", "random 0.2"]);
    expect(panel.el.querySelector(".sl-status")?.textContent).toBe("ready");
  });

  test("a text that the kernel confirms is not drawn again", async () => {
    input(slider(), "0.2");
    await frame();
    const drawn = panel.el.querySelector('[data-pane="steered"] .sl-text span');
    confirm(2, await sent(0.2), result("at ", "0.2"));
    panel.model.say(say.done(2));
    await frame();
    expect(panel.el.querySelector('[data-pane="steered"] .sl-text span')).toBe(drawn);
  });

  test("what the kernel says of an older place never takes the text back", async () => {
    input(slider(), "0.1");
    const first = await sent(0.1);
    input(slider(), "0.3");
    confirm(2, first, result("at ", "0.1"));
    panel.model.say(say.tokens(2, 1, { steered: ["late"] }));
    panel.model.say(say.done(2));
    await frame();
    expect(texts()[1]).toBe("at 0.3");
    confirm(3, await sent(0.3), result("the kernel's word"));
    await frame();
    expect(texts()[1]).toBe("the kernel's word");
  });

  test("a run that streams is left behind by a text that is ready", async () => {
    input(slider(), "2");
    panel.model.say(say.start(2, ["steered"], [], SHOWN, { origin: last().origin, edit: last().edit }));
    panel.model.say(say.tokens(2, 1, { steered: ["slow"] }));
    input(slider(), "0.1");
    panel.model.say(say.tokens(2, 2, { steered: [" words"] }));
    await frame();
    expect(texts()[1]).toBe("at 0.1");
  });

  const snapshot = (
    run: number,
    of: PanelState,
    status: "running" | "done",
    text: PaneResult,
  ): KernelMessage => ({
    kind: "snapshot",
    run,
    seq: 0,
    pending: [],
    state: of,
    result: {
      panes: { baseline: result("base"), steered: text, control: text },
      prompt_tokens: [],
      status,
      error: null,
    },
    asking: [],
  });
  const hellos = () => panel.model.sent.filter(({ kind }) => kind === "hello").length;

  test("what the kernel was never told does not stand where it goes on with a text of its own", async () => {
    input(slider(), "2");
    const { origin, edit } = last();
    panel.model.say(say.start(2, ["steered", "control"], [], SHOWN, { origin, edit }));
    panel.model.say(say.tokens(2, 1, { steered: ["slow"], control: ["slow"] }));
    input(slider(), "0.1");
    input(slider(), "2");
    await vi.waitFor(() => expect(panel.model.runs.length).toBe(2));
    const again = last();
    const before = hellos();
    panel.model.say(
      say.start(3, [], ["steered", "control"], SHOWN, { origin: again.origin, edit: again.edit }),
    );
    expect(hellos()).toBe(before + 1);
    panel.model.say(snapshot(3, again, "running", { ...NO_END, tokens: ["slow"] }));
    panel.model.say(say.tokens(3, 1, { steered: [" words"] }));
    await frame();
    expect(texts()).toEqual(["base", "slow words", "slow"]);
  });

  test("nor where the run that was to write over it is stopped or undone before its first token", async () => {
    input(slider(), "0.1");
    input(slider(), "2");
    const { origin, edit } = await sent(2);
    panel.model.say(say.start(2, ["steered", "control"], [], SHOWN, { origin, edit }));
    const before = hellos();
    panel.model.say({ kind: "end", run: 2, status: "stopped", panes: {}, error: null });
    expect(hellos()).toBe(before + 1);
    panel.model.say(say.start(3, [], [], SHOWN, { origin: "" })); // an undo leaves them as the kernel has them
    expect(hellos()).toBe(before + 2);
    panel.model.say(snapshot(3, state(), "done", result("kept")));
    await frame();
    expect(texts()).toEqual(["base", "kept", "kept"]);
  });

  test("a snapshot that is older than a text that is shown leaves it there", async () => {
    input(slider(), "2");
    const older = last();
    input(slider(), "0.1");
    panel.model.say(snapshot(2, older, "done", result("older")));
    await frame();
    expect(texts()).toEqual(["base", "at 0.1", "random 0.1"]);
    expect(panel.el.querySelector(".sl-status")?.textContent).toBe("generating");
    confirm(3, await sent(0.1), result("at ", "0.1"));
    panel.model.say(say.done(3));
    await frame();
    expect(texts()[1]).toBe("at 0.1");
    expect(panel.el.querySelector(".sl-status")?.textContent).toBe("ready");
  });

  test("nor where a change from elsewhere leaves the panes as they were", () => {
    input(slider(), "0.1");
    const before = hellos();
    panel.model.change("state", state({ max_new_tokens: 64, revision: 3 }));
    panel.model.say(say.start(2, [], [], SHOWN));
    expect(hellos()).toBe(before + 1);
  });

  test("a run that brings its own texts needs no more of the kernel", async () => {
    input(slider(), "0.1");
    input(slider(), "2");
    const before = hellos();
    const { origin, edit } = await sent(2);
    panel.model.say(say.start(2, ["steered", "control"], [], SHOWN, { origin, edit }));
    input(slider(), "0.1");
    confirm(3, await sent(0.1), result("at ", "0.1"));
    expect(hellos()).toBe(before);
  });

  test("what was set last is told before the page goes", () => {
    input(slider(), "0.1");
    expect(panel.model.runs).toEqual([]);
    window.dispatchEvent(new Event("pagehide"));
    expect(last().steering[0]?.coefficient).toBe(0.1);
  });

  test("a change from Python is shown, whatever was ready", async () => {
    input(slider(), "0.1");
    panel.model.change("state", state({ prompt: "From Python", revision: 3 }));
    panel.model.say(say.start(2, ["steered"], [], SHOWN));
    panel.model.say(say.tokens(2, 1, { steered: ["python"] }));
    await frame();
    expect(texts()[1]).toBe("python");
  });

  test("stop leaves the kernel with what is shown", async () => {
    input(slider(), "0.1");
    input(slider(), "0.3");
    await new Promise((resolve) => setTimeout(resolve)); // the button is drawn anew
    panel.el.querySelector<HTMLButtonElement>(".sl-stop")?.click();
    await frame();
    const kinds = panel.model.sent.slice(-2).map((m) => m.kind);
    expect([kinds, last().steering[0]?.coefficient]).toEqual([["run", "stop"], 0.3]);
  });
});
