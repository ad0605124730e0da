import { afterEach, beforeEach, expect, test } from "vitest";
import type { Asks, DirectionsAnswer, MapInfo } from "../src/protocol";
import { strengthOf } from "../src/widget/strength";
import { frame, type Shown, say, show, state } from "./fakes";

let panel: Shown;
beforeEach(() => {
  panel = show();
});
afterEach(() => panel.close());

const asked = (kind: string) => panel.model.asked.filter((ask) => ask.what.kind === kind);

async function answer<K extends keyof Asks>(kind: K, made: Asks[K]["answer"]): Promise<void> {
  panel.model.say({ kind: "answer", id: asked(kind).at(-1)?.id ?? "", answer: made });
  await frame();
}

const ABOUT: DirectionsAnswer = {
  names: ["refusal"],
  facts: [[{ name: "method", value: "difference in means" }]],
  cosines: [[1]],
  map: null,
  own: [null],
};
const MAP: MapInfo = {
  id: "m1",
  name: "bundled prompts",
  point: "resid_pre",
  positions: [-2, -1],
  norms: [
    [1, 2, 1, 1],
    [null, 4, 1, 1],
  ],
  residual_norms: [
    [8, 8, 8, 8],
    [8, 8, 8, 8],
  ],
};

async function open(): Promise<void> {
  panel.el.querySelector<HTMLElement>('[data-tab="directions"]')?.click();
  await frame();
}

test("the tab asks for arithmetic at once and for tokens when a direction is shown", async () => {
  await open();
  expect(asked("directions").length).toBe(1);
  await answer("directions", ABOUT);
  expect(panel.el.querySelector(".sl-facts-list")?.textContent).toBe("methoddifference in means");
  expect(asked("nearest").at(-1)?.what).toEqual({
    kind: "nearest",
    epoch: 0,
    direction: "refusal",
    fingerprint: "f1",
    by: "unembedding",
  });
  await answer("nearest", { along: [{ text: " no", value: 0.5 }], against: [], says: "cosine" });
  expect(panel.el.querySelector(".sl-near li")?.textContent).toBe("␣no0.50");
});

test("a map is drawn at a position, and a layer without a direction says so", async () => {
  await open();
  const [norms, residual_norms] = [MAP.norms, MAP.residual_norms].map((all) =>
    all.map((one) => one.slice(0, 2)),
  );
  await answer("directions", { ...ABOUT, map: { ...MAP, norms, residual_norms } as MapInfo });
  expect(asked("map-cosines").at(-1)?.what).toEqual({ kind: "map-cosines", map: "m1", position: -1 });
  const layers = [...panel.el.querySelectorAll(".sl-bars-layer")].map((one) =>
    one.getAttribute("aria-label"),
  );
  expect(layers).toEqual([
    "layer 0: no direction, the two sides do not differ",
    "layer 1: |v| 4.00, 0.50 of the stream’s norm 8.00",
  ]);
  await answer("map-cosines", {
    values: [
      [null, null],
      [null, 1],
    ],
  });
  const cells = [...panel.el.querySelectorAll(".sl-layers .sl-heat-cell")];
  expect(cells.map((cell) => cell.getAttribute("data-rejected"))).toEqual(["true", "true", "true", "false"]);
});

const marked = () =>
  panel.el.querySelector('.sl-bars-layer[aria-selected="true"]')?.getAttribute("data-layer");
const position = () =>
  panel.el.querySelector<HTMLSelectElement>(".sl-layers")?.closest("section")?.querySelector("select");

test("a bar is marked where the map has the very direction, and at its position alone", async () => {
  await open();
  await answer("directions", { ...ABOUT, map: MAP });
  expect(marked(), "the same layer and point are not enough").toBeUndefined();
  expect([...(position()?.options ?? [])].map((option) => option.textContent)).toEqual(["−2", "−1"]);
  const at = () => asked("map-cosines").at(-1)?.what;
  expect(at()).toMatchObject({ position: -1 });
  panel.model.change("state", state({ revision: 1 }));
  await frame();
  await answer("directions", { ...ABOUT, map: { ...MAP, id: "m2" }, own: [{ position: -2, layer: 2 }] });
  expect(at()).toMatchObject({ map: "m2", position: -2 });
  expect(marked()).toBe("2");
  const select = position() as HTMLSelectElement;
  select.value = "1";
  select.dispatchEvent(new Event("change", { bubbles: true }));
  await frame();
  expect(at()).toMatchObject({ position: -1 });
  expect(marked()).toBeUndefined();
});

test("a map that nothing else tells of is asked about, too: where all candidates of a search fell", async () => {
  await open();
  await answer("directions", { ...ABOUT, map: MAP });
  panel.model.change("info", { ...panel.model.values.info, map: "m2" });
  await frame();
  expect(asked("directions").at(-1)?.what).toEqual({ kind: "directions", revision: 0, map: "m2" });
});

test("the picker is shaded once the run is over, not while it goes on", async () => {
  const cell = () => panel.el.querySelectorAll<HTMLElement>(".sl-cell")[1];
  panel.model.say(say.start(1));
  await frame();
  expect(asked("expression")).toEqual([]);
  panel.model.say(say.done(1));
  await frame();
  expect(asked("expression").at(-1)?.what).toEqual({
    kind: "expression",
    direction: "refusal",
    fingerprint: "f1",
    epoch: 0,
    prompt: "Hello",
  });
  const flat = [0.2, 0.2, 0.2, 0.2];
  await answer("expression", {
    points: ["resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post"],
    shares: [[0.2, 0.6, 0.1, 0.4], flat, flat, flat, flat],
    chance: 0.2,
    n_tokens: 5,
  });
  expect(cell()?.style.getPropertyValue("--strength")).toBe("100%");
  expect(cell()?.getAttribute("aria-label")).toContain("0.60 of the stream lies along it (chance: 0.20)");
  const grid = panel.el.querySelector(".sl-grid");
  expect(grid?.getAttribute("data-stale")).toBe("false");
  const box = panel.el.querySelector("textarea") as HTMLTextAreaElement;
  box.value = "Other";
  box.dispatchEvent(new Event("input", { bubbles: true }));
  await frame();
  expect(grid?.getAttribute("data-stale")).toBe("true");
  expect(asked("expression").length).toBe(1); // what is typed is not asked about before it ran
  panel.model.change("info", { ...panel.model.values.info, epoch: 1 });
  await frame();
  expect(asked("expression").at(-1)?.what, "the weights are others now").toMatchObject({ epoch: 1 });
});

test("a share no larger than chance is no shade", () => {
  const of = strengthOf({ points: ["resid_pre"], shares: [[0.1, 0.3, 0.5, null]], chance: 0.3, n_tokens: 1 });
  expect([0, 1, 2].map((layer) => of([layer, "resid_pre"])?.depth)).toEqual([0, 0, 1]);
  expect(of([3, "resid_pre"])).toBe(null);
  expect(of([0, "mlp_out"])).toBe(null);
});
