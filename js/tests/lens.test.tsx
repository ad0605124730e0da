import { afterEach, beforeEach, expect, test } from "vitest";
import type { LensAnswer, TokensAnswer } from "../src/protocol";
import { percent } from "../src/widget/Likely";
import { nextTokens, projected } from "../src/widget/lensmap";
import { coloured } from "../src/widget/look";
import { frame, type Shown, say, show, text } from "./fakes";

const NASTY = "<img src=x onerror=alert(1)>";
const logprobs = (...p: (number | null)[]) => p;

function tokens(change: Partial<TokensAnswer> = {}): TokensAnswer {
  const read = (p: (number | null)[], cosine: number) => ({
    logprobs: p,
    others: [[], [["x", 0.1]], [[NASTY, 0.25]], [["y", 0]], []] as [string, number][][],
    cosines: [[0, 1, 2, 3, 4].map((i) => [0, cosine * i, 0.5, -0.1])],
    projections: [[0, 1, 2, 3, 4]],
  });
  return {
    run: 1,
    pane: "steered",
    n_prompt: 2,
    tokens: ["<user>", "Hi", "Yes", " sir", "</turn>"],
    directions: [{ name: "refusal", layer: 1 }],
    baseline: read(logprobs(null, -1, -2, -3, -1), 0.1),
    steered: read(logprobs(null, -1, -1, -3.5, -1), 0.2),
    ...change,
  };
}

function lens(change: Partial<LensAnswer> = {}): LensAnswer {
  const cells = (p: number) => ({
    words: [0, 1, 2, 3].map((layer) => [0, 1, 2, 3].map(() => [layer % 2, 2])),
    values: [0, 1, 2, 3].map(() => [0, 1, 2, 3].map(() => [p, 0.1])),
  });
  return {
    run: 1,
    pane: "steered",
    start: 0,
    total: 4,
    n_prompt: 2,
    tokens: ["<user>", "Hi", "Yes", " sir"],
    words: ["one", " two", NASTY],
    baseline: cells(0.5),
    steered: cells(0.75),
    gained: cells(0.25),
    kl: [0, 1, 2, 3].map((layer) => [0, 1, 2, 3].map((token) => layer * token)),
    ...change,
  };
}

let panel: Shown;
beforeEach(async () => {
  panel = show();
  const { model } = panel;
  model.say(say.start(1));
  model.say({ kind: "prompt", run: 1, tokens: ["<user>", "Hi"] });
  model.say(say.tokens(1, 1, { baseline: ["Yes", " sir", ""], steered: ["Yes", " sir", ""] }));
  model.say(say.done(1));
  await frame();
});
afterEach(() => panel.close());

const spans = (pane: string) => [
  ...panel.el.querySelectorAll<HTMLElement>(`[data-pane="${pane}"] .sl-text > span`),
];
const card = () => panel.el.querySelector(".sl-card")?.textContent ?? "";
const asked = (kind: string) => panel.model.asked.filter(({ what }) => what.kind === kind);
const choose = (select: Element | null | undefined, value: string) => {
  (select as HTMLSelectElement).value = value;
  select?.dispatchEvent(new Event("change", { bubbles: true }));
};
const press = (key: string) =>
  document.activeElement?.dispatchEvent(
    new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }),
  );
/** Answers the newest question of a kind about a pane. */
const answer = async (kind: string, made: TokensAnswer | LensAnswer) => {
  const id = asked(kind).findLast(({ what }) => "pane" in what && what.pane === made.pane)?.id ?? "";
  panel.model.say({ kind: "answer", id, answer: made });
  await frame();
};

test("nothing is asked about tokens before somebody looks", () => {
  expect([...asked("tokens"), ...asked("lens")]).toEqual([]);
});

test("tokens are coloured once the run has ended, by sign and by depth, and plain again with the next", async () => {
  choose(panel.el.querySelector(".sl-colours select"), "change");
  await frame();
  expect(asked("tokens").map(({ what }) => what)).toEqual(
    ["baseline", "steered"].map((pane) => ({ kind: "tokens", run: 1, pane })),
  );
  await answer("tokens", tokens());
  const [yes, sir, end] = spans("steered");
  expect([yes?.dataset.sign, sir?.dataset.sign]).toEqual(["+", "-"]);
  expect([yes?.style.getPropertyValue("--depth"), sir?.style.getPropertyValue("--depth")]).toEqual([
    "100.0%",
    "50.0%",
  ]);
  expect(end?.dataset.slight).toBe("true"); // it did not change
  expect(spans("baseline").some((span) => span.classList.contains("sl-shade"))).toBe(false);
  expect(panel.el.querySelector(".sl-colours .sl-legend")?.textContent).toContain("in nats");
  panel.model.say(say.start(2));
  panel.model.say(say.tokens(2, 1, { steered: ["No"] }));
  panel.model.say(say.done(2));
  await frame();
  expect(spans("steered").map((span) => span.className)).toEqual([""]);
  expect(asked("tokens").length).toBe(4);
});

test("a token that is entered by key tells what is behind it, and Enter opens the lens there", async () => {
  const region = panel.el.querySelector<HTMLElement>('[data-pane="steered"] .sl-scroll');
  region?.focus();
  press("Enter");
  await frame();
  expect(document.activeElement).toBe(spans("steered")[0]);
  expect(card()).toContain("Reading");
  await answer("tokens", tokens());
  expect(card()).toContain("Baseline: 14 %, or else"); // e to the -2
  expect(card()).toContain("Steered: 37 %, or else");
  expect(card()).toContain("+1.00 nats by steering");
  expect(card()).toContain("+0.20 → +0.40");
  expect(panel.el.querySelector("img")).toBeNull(); // one of the others is markup
  const described = document.activeElement?.getAttribute("aria-describedby");
  expect(panel.el.querySelector(".sl-card")?.id).toBe(described);
  press("ArrowRight");
  await frame();
  expect(document.activeElement).toBe(spans("steered")[1]);
  expect(spans("steered")[0]?.hasAttribute("role")).toBe(false);
  press("ArrowRight"); // the token that ends the text has no text to go to
  expect(document.activeElement).toBe(spans("steered")[1]);
  press("Enter");
  await frame();
  expect(asked("lens").at(-1)?.what).toEqual({ kind: "lens", run: 1, pane: "steered", start: 0 });
  await answer("lens", lens());
  expect(document.activeElement?.getAttribute("data-place")).toBe("0,3"); // top layer, the second token of the answer
  expect(panel.el.querySelector("img")).toBeNull();
});

test("a reading that was cancelled says so, and is asked for again", async () => {
  choose(panel.el.querySelector(".sl-colours select"), "change");
  await frame();
  const cancel = async () => {
    [...panel.el.querySelectorAll<HTMLElement>(".sl-lens button")]
      .find((b) => b.textContent === "Cancel")
      ?.click();
    await frame();
  };
  const again = () => [...panel.el.querySelectorAll("button")].find((b) => b.textContent === "Ask again");
  panel.el.querySelector<HTMLElement>('[data-tab="lens"]')?.click();
  await frame();
  panel.el.querySelectorAll<HTMLInputElement>('[aria-label="What is shown"] input')[1]?.click();
  await frame();
  const before = asked("tokens").length;
  const said = panel.el.querySelector('.sl-unanswered [role="status"]');
  await cancel();
  expect(said?.textContent, "in a place that was there before").toBe("Cancelled.");
  expect(panel.el.querySelector(".sl-lens")?.textContent).not.toContain("Being read");
  expect(asked("tokens").length).toBe(before);
  again()?.click();
  await frame();
  expect(asked("tokens").length).toBe(before + 1);
  await answer("tokens", tokens());
  expect(panel.el.querySelector(".sl-lens .sl-heat-cell")).not.toBeNull();
  panel.el.querySelectorAll<HTMLInputElement>('[aria-label="What is shown"] input')[0]?.click();
  await frame();
  const lenses = asked("lens").length;
  await cancel();
  again()?.click();
  await frame();
  expect(asked("lens").length).toBe(lenses + 1);
});

test("spaces and special tokens are shown on request, and the text comes back as it was", async () => {
  const box = () => panel.el.querySelector<HTMLInputElement>(".sl-colours input");
  box()?.click();
  await frame();
  await answer("tokens", tokens());
  expect(spans("steered").map((span) => span.textContent)).toEqual(["Yes", "␣sir", "</turn>"]);
  box()?.click();
  await frame();
  expect(text(panel.el, "steered")).toBe("Yes sir");
});

test("the lens rests while a run goes on, marked as old, and reads anew when it has ended", async () => {
  panel.el.querySelector<HTMLElement>('[data-tab="lens"]')?.click();
  await frame();
  await answer("lens", lens());
  const stale = () => panel.el.querySelector(".sl-lens [data-stale]")?.getAttribute("data-stale");
  expect(stale()).toBe("false");
  const said = panel.el.querySelector('.sl-lens > [role="status"]');
  panel.model.say(say.start(2));
  await frame();
  expect([stale(), asked("lens").length]).toEqual(["true", 1]);
  expect(said?.textContent, "in a place that was there before").toContain("when the run has ended");
  panel.model.say(say.done(2));
  await frame();
  expect(asked("lens").at(-1)?.what).toMatchObject({ run: 2 });
  expect(stale()).toBe("true");
  await answer("lens", lens({ run: 2 }));
  expect(stale()).toBe("false");
  panel.el.querySelector<HTMLElement>('[data-tab="preview"]')?.click();
  await frame();
  panel.model.say(say.start(3));
  panel.model.say(say.done(3));
  await frame();
  expect(asked("lens").length).toBe(2); // a tab that is not open rests
});

test("a part of the text that is gone with a shorter one gives way to what there is", async () => {
  const { model, el } = panel;
  const starts = () => asked("lens").map(({ what }) => ("start" in what ? what.start : null));
  el.querySelector<HTMLElement>('[data-tab="lens"]')?.click();
  await frame();
  await answer("lens", lens({ total: 140 }));
  const later = () => [...el.querySelectorAll("button")].find((one) => one.textContent === "Later");
  later()?.click();
  await frame();
  await answer("lens", lens({ start: 48, total: 140 }));
  model.say(say.start(2));
  model.say(say.done(2));
  await frame();
  await answer("lens", lens({ run: 2, start: 19, total: 20 })); // the kernel reads the last token instead
  expect(starts()).toEqual([0, 48, 48, 0]);
  await answer("lens", lens({ run: 2, total: 20 }));
  expect(el.querySelector(".sl-lens [data-stale]")?.getAttribute("data-stale")).toBe("false");
});

test("layers stand last on top, and a cell tells its likeliest tokens", async () => {
  panel.el.querySelector<HTMLElement>('[data-tab="lens"]')?.click();
  await frame();
  await answer("lens", lens());
  const grid = [...panel.el.querySelectorAll(".sl-lens .sl-heat-grid")].at(-1);
  expect([...(grid?.querySelectorAll('[role="rowheader"]') ?? [])].map((one) => one.textContent)).toEqual([
    "3",
    "2",
    "1",
    "0",
  ]);
  const cell = grid?.querySelector<HTMLElement>('[data-place="0,3"]');
  expect(cell?.textContent).toBe("␣two");
  expect(cell?.getAttribute("aria-label")).toBe(
    `layer 3, after ␣sir (token 4): ␣two 75 %, ${NASTY.replaceAll(" ", "␣")} 10 %`,
  );
  cell?.focus();
  await frame();
  expect(panel.el.querySelector(".sl-cellfacts")?.textContent).toContain("KL 9.000");
  expect(grid?.querySelectorAll('.sl-heat-column[data-split="true"]').length).toBe(1);
});

const radio = async (title: string) => {
  panel.el.querySelector<HTMLElement>(`.sl-lens label[title="${title}"] input`)?.click();
  await frame();
};
const grids = () => [...panel.el.querySelectorAll<HTMLElement>(".sl-lens .sl-heat-grid")];
const headings = () => [...panel.el.querySelectorAll(".sl-maps h4")].map((one) => one.textContent);
const legends = () => panel.el.querySelectorAll(".sl-lens .sl-legend").length;

test("baseline and steered stand side by side, of one shape, under one legend, or the difference alone", async () => {
  panel.el.querySelector<HTMLElement>('[data-tab="lens"]')?.click();
  await frame();
  await answer("lens", lens());
  expect([headings(), legends()]).toEqual([["Baseline", "Steered"], 1]);
  const words = (grid: HTMLElement, of: string) =>
    [...grid.querySelectorAll(of)].map((one) => one.textContent);
  const [first, second] = grids() as [HTMLElement, HTMLElement];
  for (const of of ['[role="rowheader"]', '[role="columnheader"]'])
    expect(words(first, of)).toEqual(words(second, of));
  const at = (grid: HTMLElement) => grid.querySelector<HTMLElement>('[data-place="1,2"]');
  expect([first, second].map((grid) => at(grid)?.style.getPropertyValue("--depth"))).toEqual([
    "50.0%",
    "75.0%",
  ]);
  await radio("What steering changed");
  expect([grids().length, headings(), legends()]).toEqual([1, [], 1]);
  expect(grids()[0]?.getAttribute("aria-label")).toContain("difference");
  await radio("Without steering");
  expect(grids().map((grid) => grid.getAttribute("aria-label")?.split(", ").at(-1))).toEqual(["baseline"]);
});

test("a cell that is pointed at in one map is marked in both, its facts stay, and they scroll as one", async () => {
  panel.el.querySelector<HTMLElement>('[data-tab="lens"]')?.click();
  await frame();
  await answer("lens", lens());
  const [first, second] = grids() as [HTMLElement, HTMLElement];
  const marked = () =>
    grids().map((grid) =>
      [...grid.querySelectorAll<HTMLElement>("[data-pointed]")].map((one) => one.dataset.place),
    );
  expect(marked()).toEqual([[], []]);
  first
    .querySelector('[data-place="2,1"]')
    ?.dispatchEvent(new PointerEvent("pointermove", { bubbles: true }));
  await frame();
  expect(marked()).toEqual([["2,1"], ["2,1"]]);
  expect(panel.el.querySelector(".sl-cellfacts")?.textContent).toContain("Layer 1, afterHi");
  first.dispatchEvent(new PointerEvent("pointerleave"));
  second.querySelector<HTMLElement>('[data-place="0,0"]')?.focus();
  press("ArrowRight");
  await frame();
  expect(second.contains(document.activeElement)).toBe(true);
  expect(marked()).toEqual([["0,1"], ["0,1"]]);
  first.scrollLeft = 40;
  first.scrollTop = 25;
  first.dispatchEvent(new Event("scroll"));
  expect([second.scrollLeft, second.scrollTop]).toEqual([40, 25]);
});

test("where nothing is steered there is one map, and it says so", async () => {
  panel.el.querySelector<HTMLElement>('[data-tab="lens"]')?.click();
  await frame();
  await answer("lens", lens({ steered: null, gained: null }));
  expect([grids().length, headings(), legends()]).toEqual([1, [], 1]);
  expect(panel.el.querySelector(".sl-lens")?.textContent).toContain(
    "Nothing is steered: this is the baseline",
  );
  await radio("What steering changed");
  expect(grids()[0]?.getAttribute("aria-label")).toContain("baseline");
});

test("both projections have one scale, and each says its own number of the place that is pointed at", async () => {
  panel.el.querySelector<HTMLElement>('[data-tab="lens"]')?.click();
  await frame();
  await radio("How far each token lies along a direction");
  await answer("tokens", tokens());
  expect([headings(), legends()]).toEqual([["Baseline", "Steered"], 1]);
  const at = (grid: HTMLElement) => grid.querySelector<HTMLElement>('[data-place="2,3"]');
  expect(grids().map((grid) => at(grid)?.style.getPropertyValue("--depth"))).toEqual(["37.5%", "75.0%"]);
  grids()[1]
    ?.querySelector('[data-place="2,3"]')
    ?.dispatchEvent(new PointerEvent("pointermove", { bubbles: true }));
  await frame();
  expect([...panel.el.querySelectorAll(".sl-lens .sl-say")].map((one) => one.textContent)).toEqual([
    "into layer 1, ␣sir (token 4): +0.30",
    "into layer 1, ␣sir (token 4): +0.60",
  ]);
});

test("a token that is clicked opens the lens at its place, in the map of its text", async () => {
  spans("steered")[1]?.click();
  await frame();
  await answer("lens", lens());
  expect(document.activeElement?.getAttribute("data-place")).toBe("0,3");
  expect(grids()[1]?.contains(document.activeElement)).toBe(true);
  panel.el.querySelector<HTMLElement>('[data-tab="preview"]')?.click();
  await frame();
  spans("baseline")[0]?.click();
  await frame();
  await answer("lens", lens({ pane: "baseline" }));
  expect(grids()[0]?.contains(document.activeElement)).toBe(true);
  expect(document.activeElement?.getAttribute("data-place")).toBe("0,2");
  panel.el.querySelector<HTMLElement>('[data-tab="preview"]')?.click();
  await frame();
  spans("baseline")[1]?.click(); // of the text that was read last: nothing has to be asked again
  await frame();
  await frame();
  expect(document.activeElement?.getAttribute("data-place")).toBe("0,3");
});

test("the map of the difference shades the divergence and names what rose", () => {
  const map = nextTokens(lens(), "difference");
  expect(map.cell(3, 3)).toEqual({ value: 9, text: "␣two" });
  expect([map.scale.min, map.scale.max]).toEqual([0, 9]);
  expect(map.detail(1, 2)).toContain("KL 2.000; rose most: ␣two +25 points");
  const none = nextTokens(lens({ steered: null, gained: null }), "difference");
  expect(none.cell(3, 3).text).toBe("");
  expect(nextTokens(lens({ steered: null }), "steered").cell(0, 0)).toEqual({ value: 0.5, text: "one" });
});

test("projections are shown under either recipe and as their difference, a window at a time", () => {
  const value = (under: "baseline" | "steered" | "difference") =>
    projected(tokens(), "refusal", under, 2, 2).cell(1, 1).value; // the fourth token
  expect(value("baseline")).toBeCloseTo(0.3);
  expect(value("steered")).toBeCloseTo(0.6);
  expect(value("difference")).toBeCloseTo(0.3);
  const map = projected(tokens(), "refusal", "steered", 2, 2);
  expect([map.tokens, map.total, map.layers]).toEqual([["Yes", " sir"], 5, 4]);
  expect(map.scale).toMatchObject({ kind: "diverging", min: -0.8, max: 0.8 });
});

test("one wild token does not pale all the others, and the legend says that it is beyond", () => {
  const n = 40;
  const line = (p: number[]) => ({ ...tokens().baseline, logprobs: [null, -1, ...p] });
  const wild = tokens({
    baseline: line(Array.from({ length: n }, () => -2)),
    steered: line(Array.from({ length: n }, (_, i) => (i ? -1 : -60))),
  });
  const made = coloured({ by: "change" }, [wild]);
  expect(made?.scale).toMatchObject({ min: -1, max: 1 });
  expect(made?.scale.format?.(-1)).toBe("≤ −1.0");
  expect(coloured({ by: "none" }, [wild])).toBeNull();
});

test("the baseline's text is coloured by its own projections, every other by those it was made with", () => {
  const made = coloured({ by: "projection", direction: "refusal" }, [tokens(), tokens({ pane: "baseline" })]);
  expect(made?.values.get("steered")?.[0]).toBeCloseTo(0.4);
  expect(made?.values.get("baseline")?.[0]).toBeCloseTo(0.2);
  expect(made?.scale.title).toContain("into layer 1");
});

test("probabilities are written with digits that say something", () => {
  expect([0, 1e-6, 0.0123, 0.5, 0.99999, 1].map(percent)).toEqual([
    "< 0.1 %",
    "< 0.1 %",
    "1.2 %",
    "50 %",
    "> 99.9 %",
    "> 99.9 %",
  ]);
});
