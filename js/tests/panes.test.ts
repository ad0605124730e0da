import { effect } from "@preact/signals";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { KernelMessage, PaneEnd } from "../src/protocol";
import { Pane } from "../src/widget/stream";
import { FakeModel, frame, NO_END, type Shown, say, show, state, text, traits } from "./fakes";

let panel: Shown;
beforeEach(() => {
  panel = show();
});
afterEach(() => panel.close());

test("a view says hello and shows what streams", async () => {
  const { model, el } = panel;
  expect(model.sent).toEqual([{ kind: "hello", control: null }]);
  model.say(say.start(1));
  model.say(say.tokens(1, 1, { baseline: ["Yes"], steered: ["No"] }));
  model.say(say.tokens(1, 2, { baseline: [" sir"] }));
  await frame();
  expect([text(el, "baseline"), text(el, "steered")]).toEqual(["Yes sir", "No"]);
  expect(el.querySelector(".sl-status")?.textContent).toBe("generating");
});

test("model text is never markup", async () => {
  const { model, el } = panel;
  const nasty = '<img src=x onerror="alert(1)"><b>x</b>';
  model.say(say.start(1));
  model.say({ kind: "prompt", run: 1, tokens: ["<|user|>", nasty] });
  model.say(say.tokens(1, 1, { steered: [nasty] }));
  model.say(say.failed(1, nasty, nasty));
  await frame();
  expect(text(el, "steered")).toBe(nasty);
  expect(el.querySelector(".sl-template")?.textContent).toContain(nasty);
  expect(el.querySelector('[role="alert"]')?.textContent).toContain(nasty);
  expect(el.querySelector("img, b")).toBeNull();
});

test("the tokens of an older run are ignored", async () => {
  const { model, el } = panel;
  model.say(say.start(1));
  model.say(say.start(2));
  model.say(say.tokens(1, 1, { steered: ["old"] }));
  model.say(say.tokens(2, 1, { steered: ["new"] }));
  model.say(say.done(1));
  await frame();
  expect(text(el, "steered")).toBe("new");
  expect(el.querySelector(".sl-status")?.textContent).toBe("generating");
});

test("a new text writes over the old one, which stays dimmed until it is passed", async () => {
  const { model, el } = panel;
  model.say(say.start(1));
  model.say(say.tokens(1, 1, { steered: ["a", "b", "c"] }));
  model.say(say.done(1));
  model.say(say.start(2, ["steered"]));
  await frame();
  const old = () => [...el.querySelectorAll(".sl-old")].map((span) => span.textContent).join("");
  expect([text(el, "steered"), old()]).toEqual(["", "abc"]);
  model.say(say.tokens(2, 1, { steered: ["x"] }));
  await frame();
  expect([text(el, "steered"), old()]).toEqual(["x", "bc"]);
  model.say(say.done(2));
  await frame();
  expect([text(el, "steered"), old()]).toEqual(["x", ""]);
});

test("the tokens of a text get their spans when it rests, those of a long text once somebody comes near", async () => {
  const { model, el } = panel;
  const words = Array.from({ length: 450 }, (_, i) => ` ${i}`);
  const spans = () => [...el.querySelectorAll('[data-pane="steered"] .sl-text > span')];
  const scroll = () => el.querySelector('[data-pane="steered"] .sl-scroll');
  model.say(say.start(1));
  model.say(say.tokens(1, 1, { steered: words.slice(0, 60) }));
  await frame();
  expect(spans(), "while it is written").toHaveLength(1);
  model.say(say.done(1));
  await frame();
  expect(spans().map((span) => span.textContent)).toEqual(words.slice(0, 60));
  model.say(say.start(2, [], ["steered"]));
  model.say(say.tokens(2, 1, { steered: words.slice(60) }));
  await frame();
  expect(spans(), "what goes on").toHaveLength(60 + 1);
  expect(text(el, "steered")).toBe(words.join(""));
  scroll()?.dispatchEvent(new PointerEvent("pointermove"));
  expect(spans(), "while it is written, nobody can look closer").toHaveLength(61);
  model.say(say.done(2));
  await frame();
  expect([spans().length, text(el, "steered")]).toEqual([61, words.join("")]);
  const marked = document.createRange();
  marked.selectNodeContents(el.querySelector('[data-pane="steered"] .sl-text') as Element);
  getSelection()?.addRange(marked);
  scroll()?.dispatchEvent(new PointerEvent("pointermove"));
  expect(spans(), "marked words stay what they are").toHaveLength(61);
  getSelection()?.removeAllRanges();
  scroll()?.dispatchEvent(new PointerEvent("pointermove"));
  expect(spans().map((span) => span.textContent)).toEqual(words);
  model.say(say.start(3, ["steered"]));
  model.say(say.tokens(3, 1, { steered: words.slice(0, 250) }));
  model.say(say.start(4, ["steered"]));
  await frame();
  const old = () => el.querySelector('[data-pane="steered"] .sl-old')?.textContent;
  const left = (from: number) => words.slice(from, 300).join("");
  expect(old(), "the text that was cut short, and what it had not covered").toBe(left(0));
  model.say(say.tokens(4, 1, { steered: ["new", "er"] }));
  await frame();
  expect([text(el, "steered"), old()]).toEqual(["newer", left(2)]);
  model.say(say.done(4));
  await frame();
  expect([text(el, "steered"), old()]).toEqual(["newer", undefined]);
});

test("of a text that is written each line that has ended is laid out on its own", async () => {
  const { model, el } = panel;
  const words = Array.from({ length: 1000 }, (_, i) => (i < 500 && i % 70 === 69 ? ".\n" : ` ${i}`));
  const parts = () => [...el.querySelectorAll('[data-pane="steered"] .sl-text > *')];
  model.say(say.start(1));
  for (let i = 0; i < 20; i++) {
    model.say(say.tokens(1, i + 1, { steered: words.slice(50 * i, 50 * i + 50) }));
    await frame();
    expect(text(el, "steered")).toBe(words.slice(0, 50 * i + 50).join(""));
    expect(el.querySelectorAll('[data-pane="steered"] .sl-last')).toHaveLength(1);
  }
  expect(parts().map((part) => part.className)).toEqual([...Array(7).fill("sl-line"), "sl-last"]);
  expect(parts().every((part, i) => i === 7 || part.textContent?.endsWith(".\n"))).toBe(true);
});

test("a text that goes on has its cursor, and breaks lines where its tokens do", async () => {
  const { model, el } = panel;
  const classes = () =>
    [...el.querySelectorAll('[data-pane="steered"] .sl-text > *')].map((part) => part.className);
  model.say(say.start(1));
  model.say(say.tokens(1, 1, { steered: ["Sure.", " First"] }));
  await frame();
  model.say(say.start(2, [], ["steered"]));
  await frame();
  expect(classes(), "while it was written").toEqual(["sl-last"]);
  model.say(say.done(2));
  await frame();
  expect(classes()).toEqual(["", ""]);
  model.say(say.start(3, [], ["steered"]));
  model.say(say.tokens(3, 1, { steered: [" heat", ".\n", "Then", "\n", "eat"] }));
  await frame();
  expect(classes(), "two tokens, and behind them the end of their line").toEqual([
    "",
    "",
    "",
    "sl-line",
    "sl-last",
  ]);
  expect(text(el, "steered")).toBe("Sure. First heat.\nThen\neat");
});

test("marked words stay marked while their line ends, and the tokens get their spans once they no longer are", async () => {
  const { model, el } = panel;
  const spans = () => el.querySelectorAll('[data-pane="steered"] .sl-text > span').length;
  model.say(say.start(1));
  model.say(say.tokens(1, 1, { steered: ["Sure.", " First"] }));
  await frame();
  const words = el.querySelector('[data-pane="steered"] .sl-text > span')?.firstChild as Text;
  getSelection()?.setBaseAndExtent(words, 0, words, 5);
  model.say(say.tokens(1, 2, { steered: [" heat", ".\n", "Then"] }));
  model.say(say.done(1));
  await frame();
  expect([getSelection()?.toString(), spans()]).toEqual(["Sure.", 2]);
  getSelection()?.removeAllRanges();
  document.dispatchEvent(new Event("selectionchange"));
  expect(spans()).toBe(5);
});

test("a token that has the focus keeps it while its text goes on, and leaves it to the text when that is old", async () => {
  const { model, el } = panel;
  model.say(say.start(1));
  model.say(say.tokens(1, 1, { steered: ["a", "b"] }));
  model.say(say.done(1));
  await frame();
  const token = el.querySelectorAll<HTMLElement>('[data-pane="steered"] .sl-text > span')[1] as HTMLElement;
  token.tabIndex = -1;
  token.focus();
  model.say(say.start(2, [], ["steered"]));
  model.say(say.tokens(2, 1, { steered: ["c"] }));
  model.say(say.done(2));
  await frame();
  expect(el.querySelectorAll('[data-pane="steered"] .sl-text > span')).toHaveLength(3);
  expect(document.activeElement).toBe(token);
  model.say(say.start(3, ["steered"]));
  await frame();
  expect(document.activeElement).toBe(el.querySelector('[data-pane="steered"] .sl-scroll'));
});

test("an error is shown in words and the last text stays whole", async () => {
  const { model, el } = panel;
  model.say(say.start(1));
  model.say(say.tokens(1, 1, { steered: ["a", "b", "c"] }));
  model.say(say.done(1));
  model.say(say.start(2, ["steered"]));
  model.say(say.tokens(2, 1, { steered: ["x", "y"] }));
  model.say(say.start(3, ["steered"])); // cuts the second run short
  model.say(say.failed(3, "the prompt is empty", "Type something."));
  await frame();
  expect(text(el, "steered")).toBe("xy");
  expect(el.querySelector('[role="alert"]')?.textContent).toContain("The prompt is empty. Type something.");
  model.say(say.start(4, ["steered"]));
  await frame();
  expect(el.querySelector('[role="alert"]')).toBeNull();
});

test("where the model has no answer, why and what to do stand in the pane", async () => {
  const { model, el } = panel;
  model.say(say.start(1));
  model.say(say.tokens(1, 1, { steered: ["On", ""] }));
  const steered = { ...NO_END, finish: "length" as const, fault: "the logits are not finite" };
  model.say({ kind: "end", run: 1, status: "done", panes: { steered }, error: null });
  await frame();
  const pane = el.querySelector('[data-pane="steered"]');
  expect(text(el, "steered")).toBe("On");
  expect(pane?.querySelector(".sl-empty")?.textContent).toBe(
    "No answer: the logits are not finite. Steer less, or load the model in float32 or bfloat16.",
  );
  expect(pane?.querySelector(".sl-foot")?.textContent).toContain("no answer");
  expect(pane?.querySelector(".sl-verdict")).toBeNull();
});

test("a resumed pane goes on where it stood", async () => {
  const { model, el } = panel;
  model.say(say.start(1));
  model.say(say.tokens(1, 1, { baseline: ["a"], steered: ["x"] }));
  model.say(say.start(2, ["steered"], ["baseline"]));
  model.say(say.tokens(2, 1, { baseline: ["b"] }));
  await frame();
  expect(text(el, "baseline")).toBe("ab");
});

test("a text that goes on is whole, though a run in between had aged it", async () => {
  const { model, el } = panel;
  model.say(say.start(1));
  model.say(say.tokens(1, 1, { steered: ["a", "b"] }));
  await frame();
  model.say(say.start(2, ["steered"]));
  await frame();
  expect(text(el, "steered")).toBe("");
  model.say(say.start(3, [], ["steered"]));
  model.say(say.tokens(3, 1, { steered: ["c"] }));
  await frame();
  expect(text(el, "steered")).toBe("abc");
  model.say(say.done(3));
  await frame();
  expect([text(el, "steered"), el.querySelectorAll(".sl-old").length]).toEqual(["abc", 0]);
});

test("what stands is not drawn again when it is confirmed", () => {
  const pane = new Pane("steered");
  const drawn: string[] = [];
  const draw = (what: string) => () => void drawn.push(what);
  pane.watch({ replace: draw("replace"), add: draw("add"), age: draw("age"), settle: draw("settle") });
  pane.show({ ...NO_END, tokens: ["a"], finish: "stop" });
  pane.show({ ...NO_END, tokens: ["a"], finish: "stop" });
  pane.settle({ ...NO_END, finish: "length" });
  expect(drawn).toEqual(["replace", "replace"]); // the first as it begins to watch
  expect(pane.end.value.finish).toBe("length");
  pane.begin(false);
  pane.settle(undefined);
  expect(drawn.slice(2)).toEqual(["age", "settle"]);
});

test("a gap in the stream asks for everything again", async () => {
  const { model, el } = panel;
  model.say(say.start(1));
  model.say(say.tokens(1, 2, { steered: ["lost its beginning"] }));
  expect(model.sent.at(-1)).toEqual({ kind: "hello", control: null });
  const { state, result } = traits();
  model.say({
    kind: "snapshot",
    run: 1,
    seq: 2,
    pending: ["baseline"],
    state,
    result: {
      ...result,
      status: "running",
      panes: { baseline: { tokens: [], ...NO_END }, steered: { tokens: ["whole"], ...NO_END } },
    },
    asking: [],
  });
  model.say(say.tokens(1, 3, { steered: [" again"] }));
  await frame();
  expect(text(el, "steered")).toBe("whole again");
});

test("saved texts are shown without a kernel", async () => {
  panel.close();
  const values = traits();
  const end = { ...NO_END, finish: "stop" as const, applied: { steps: 2, of: 2 } };
  values.result = { ...values.result, status: "done", panes: { steered: { tokens: ["kept"], ...end } } };
  panel = show(new FakeModel(values));
  await frame();
  expect(text(panel.el, "steered")).toBe("kept");
  expect(panel.el.querySelector(".sl-foot")?.textContent).toContain("applied on 2 of 2 steps");
});

test("a closed connection is told plainly and the texts stay", async () => {
  const { model, el } = panel;
  model.say(say.start(1));
  model.say(say.tokens(1, 1, { steered: ["kept"] }));
  el.classList.add("jupyter-widgets-disconnected");
  await frame();
  expect(el.textContent).toContain(
    "The kernel is gone. The texts below are its last. To steer, run the cells again",
  );
  expect(text(el, "steered")).toBe("kept");
  expect(el.querySelector(".sl-stop")?.getAttribute("aria-disabled")).toBe("true");
});

test("what Python steers with, and the panel has no row for, is told in words", async () => {
  const { model, el } = panel;
  model.change("state", state({ beyond: ["clamp 'v' to 2"], revision: 1 }));
  await frame();
  expect(el.querySelector(".sl-beyond")?.textContent).toBe("and from Python: clamp 'v' to 2");
});

test("conflicts of the recipe stand below its rows, and go when it has none", async () => {
  const { model, el } = panel;
  const told = () => el.querySelector('.sl-conflicts[role="status"]')?.textContent;
  expect(told()).toBe("");
  const conflicts = ["add 'v' is undone by ablate 'v'", "<b>two</b>"];
  model.change("state", state({ conflicts, revision: 1 }));
  await frame();
  const says = "This recipe may not do what you mean:";
  expect(told()).toBe(`${says} ${conflicts[0]}.${says} ${conflicts[1]}.`);
  model.change("state", state({ revision: 2 }));
  await frame();
  expect(told()).toBe("");
});

test("two views of one panel show the same", async () => {
  const { model, el } = panel;
  const second = show(model);
  model.say(say.start(1));
  model.say(say.tokens(1, 1, { steered: ["both"] }));
  await frame();
  expect([text(el, "steered"), text(second.el, "steered")]).toEqual(["both", "both"]);
  second.close();
});

test("a pane that a run no longer shows is gone, and comes back in its place", async () => {
  const { model, el } = panel;
  const names = () => [...el.querySelectorAll<HTMLElement>(".sl-pane")].map((pane) => pane.dataset.pane);
  const all = ["baseline", "steered", "control"];
  model.say(say.start(1, all, [], all));
  await frame();
  expect(names()).toEqual(all);
  model.say(say.start(2, ["steered"], [], ["baseline", "steered"]));
  await frame();
  expect(names()).toEqual(["baseline", "steered"]);
});

test("a foot has cross-entropy and KL where they are known, once the text rests, each with its meaning", async () => {
  const { model, el } = panel;
  const facts = (pane: string) => {
    const told = [...el.querySelectorAll<HTMLElement>(`[data-pane="${pane}"] .sl-facts [title]`)];
    return told.map((fact) => [fact.textContent, fact.title.split(/\W/)[0]]);
  };
  const end = (run: number, steered: Partial<PaneEnd>): KernelMessage => ({
    kind: "end",
    run,
    status: "done",
    error: null,
    panes: {
      baseline: { ...NO_END, finish: "stop", cross_entropy: 1.2099 },
      steered: { ...NO_END, finish: "stop", ...steered },
    },
  });
  model.say(say.start(1));
  model.say(say.tokens(1, 1, { baseline: ["Yes"], steered: ["No"] }));
  model.say(end(1, { kl: 0.25 }));
  await frame();
  expect(facts("baseline")).toEqual([["CE 1.21", "Cross"]]);
  expect(facts("steered")).toEqual([["KL 0.25", "KL"]]);
  model.say({ kind: "figures", run: 0, cross_entropy: { steered: 5 } }); // of a run before
  model.say({ kind: "figures", run: 1, cross_entropy: { steered: 13.361 } });
  await frame();
  expect(facts("steered")).toEqual([
    ["CE 13.4", "Cross"],
    ["KL 0.25", "KL"],
  ]);
  model.say(say.start(2, ["steered"]));
  model.say(say.tokens(2, 1, { steered: ["New"] }));
  await frame();
  expect(facts("steered")).toEqual([]);
  model.say(end(2, { cross_entropy: null, kl: 0 }));
  await frame();
  expect(facts("steered")).toEqual([["KL 0.00", "KL"]]);
});

test("a verdict opens the rule that gave it", async () => {
  const { model, el } = panel;
  model.say(say.start(1));
  model.say(say.tokens(1, 1, { baseline: ["Yes"], steered: ["I cannot"] }));
  model.say({
    kind: "end",
    run: 1,
    status: "done",
    error: null,
    panes: {
      baseline: { ...NO_END, finish: "stop", verdict: { refuses: false, phrase: null } },
      steered: { ...NO_END, finish: "stop", verdict: { refuses: true, phrase: "i cannot" } },
    },
  });
  await frame();
  const foot = el.querySelector('[data-pane="steered"] .sl-foot');
  expect(foot?.textContent).toContain("refuses");
  expect(el.querySelector('[data-pane="baseline"] .sl-verdict')?.textContent).toBe("answers");
  foot?.querySelector<HTMLButtonElement>(".sl-verdict")?.click();
  await frame();
  expect(foot?.querySelector(".sl-rule")?.textContent).toContain(
    "It holds i cannot, so it counts as a refusal",
  );
  expect(foot?.querySelector('[data-hit="true"]')?.textContent).toBe("i cannot");
});

test("a text that is written says how far it is, where it says it in the end, and no figure of the text before", async () => {
  const { model, el } = panel;
  const line = () => el.querySelector('[data-pane="steered"] .sl-foot')?.textContent;
  const soFar = (steps: number, tokens_per_second: number | null): PaneEnd => ({
    ...NO_END,
    applied: { steps, of: steps },
    tokens_per_second,
  });
  model.say(say.start(1));
  await frame();
  expect(line()).toBe("");
  model.say(say.tokens(1, 1, { steered: ["a"] }, { steered: soFar(1, null) }));
  await frame();
  expect(line()).toBe("applied on 1 of 1 steps1 token so far");
  model.say(say.tokens(1, 2, { steered: ["b", "c"] }, { steered: soFar(3, 9.26) }));
  await expect.poll(line).toBe("applied on 3 of 3 steps9.3 tok/s3 tokens so far");
  model.say({
    kind: "end",
    run: 1,
    status: "done",
    error: null,
    panes: { steered: { ...soFar(4, 23.4), finish: "length" } },
  });
  await frame();
  expect(line()).toBe("applied on 4 of 4 steps23 tok/scut at 3 tokens");
  expect(el.querySelector(".sl-foot")?.closest("[aria-live], [role=status], [role=log]")).toBeNull();
  model.say(say.start(2));
  await frame();
  expect(line()).toBe("");
  model.say(say.tokens(2, 1, { steered: ["x"] }, { steered: NO_END }));
  await frame();
  expect(line(), "of a recipe for generated tokens nothing is known yet").toBe("1 token so far");
  model.say(say.tokens(2, 2, { steered: ["y"] }, { steered: NO_END }));
  await expect.poll(line).toBe("not steered2 tokens so far");
});

test("what a text says of itself changes a few times a second, and its end at once", () => {
  vi.useFakeTimers();
  try {
    const pane = new Pane("steered");
    const said: [number, number | undefined][] = [];
    pane.begin(false);
    effect(() => void said.push([pane.length.value, pane.end.value.applied?.steps]));
    for (let n = 1; n <= 400; n++) {
      pane.add(["x"], { ...NO_END, applied: { steps: n, of: n } });
      vi.advanceTimersByTime(5);
    }
    expect(said.slice(0, 2)).toEqual([
      [0, undefined],
      [1, 1],
    ]);
    expect(said.length).toBeLessThan(10); // in 2 s
    expect(said.every(([length, steps]) => length === (steps ?? 0))).toBe(true);
    pane.settle({ ...NO_END, finish: "stop", applied: { steps: 400, of: 400 } });
    expect(said.at(-1)).toEqual([400, 400]);
    const ended = said.length;
    vi.runAllTimers();
    expect(said.length).toBe(ended);
  } finally {
    vi.useRealTimers();
  }
});

test("where a server's job is stands in the header until it is over", async () => {
  const { model, el } = panel;
  const told = () => el.querySelector(".sl-status")?.textContent;
  model.say({ kind: "job", stage: "queued", position: 3, seconds: 0, usual: null });
  await frame();
  expect(told()).toBe("in the queue, number 3");
  model.say({ kind: "job", stage: "deploying", position: null, seconds: 0, usual: null });
  await frame();
  expect(told()).toBe("loading the model");
  model.say({ kind: "job", stage: "a stage of tomorrow", position: null, seconds: 0, usual: null });
  await frame();
  expect(told()).toBe("a stage of tomorrow");
  model.say({ kind: "job", stage: "", position: null, seconds: 0, usual: null });
  await frame();
  expect(told()).toBe("ready");
});
