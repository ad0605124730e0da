import { expect, test } from "vitest";
import type { PanelState, SteeringState } from "../src/protocol";
import { type Known, merged } from "../src/widget/merge";
import { state, traits } from "./fakes";

const [first] = state().steering as [SteeringState];
const row = (direction: string, change: Partial<SteeringState> = {}): SteeringState => ({
  ...first,
  direction,
  ...change,
});
const rows = (...steering: SteeringState[]) => state({ steering });

/** A state where each name stands for a vector: itself, or "name=vector". */
function known(theirs: PanelState, ...vectors: string[]): Known {
  const [info] = traits().directions;
  const named = Object.fromEntries(vectors.map((one) => one.split("=")));
  const names = new Set([...theirs.steering.map(({ direction }) => direction), "a", "b", "c"]);
  const directions = [...names].map((name) => ({ ...info, name, fingerprint: named[name] ?? name }));
  return { state: theirs, directions: directions as Known["directions"] };
}

const base = rows(row("a"), row("b"));

function expectRows(mine: PanelState, theirs: Known): { toEqual(steering: SteeringState[]): void } {
  return expect(merged(known(base), mine, theirs).steering);
}

const SOME = [
  base,
  state({ steering: [row("a", { coefficient: 2, enabled: false }), row("b")], prompt: "mine" }),
  rows(row("b", { mode: "clamp", coefficient: 3 }), row("a")),
  rows(row("b")),
  rows(row("a"), row("a", { enabled: false }), row("c"), row("b")),
  rows(),
];

test("where one side changed nothing the other one stands", () => {
  for (const one of SOME) {
    expect(merged(known(base), base, known(one))).toEqual(one);
    expect(merged(known(base), one, known(base))).toEqual(one);
    expect(merged(known(base), one, known(one))).toEqual(one);
  }
});

test("each field is of who changed it, and theirs where both did", () => {
  const mine = { ...base, prompt: "mine", seed: 1 };
  expect(merged(known(base), mine, known({ ...base, seed: 2, control: false, revision: 9 }))).toEqual({
    ...base,
    prompt: "mine",
    seed: 2,
    control: false,
    revision: 9,
  });
  expectRows(
    rows(row("a", { coefficient: 1, tokens: "prompt" }), row("b", { coefficient: 1 })),
    known(rows(row("a", { coefficient: 2 }), row("b", { cells: [] }))),
  ).toEqual([row("a", { coefficient: 2, tokens: "prompt" }), row("b", { coefficient: 1, cells: [] })]);
});

test("a change stays with its vector, wherever its row is and whatever it is called", () => {
  const mine = rows(row("a", { coefficient: 1 }), row("b"));
  expectRows(mine, known(rows(row("c"), row("b"), row("new")), "new=a")).toEqual([
    row("c"),
    row("b"),
    row("new", { coefficient: 1 }),
  ]);
  expectRows(mine, known(rows(row("b")))).toEqual([row("b")]);
  expectRows(mine, known(rows(row("a"), row("b")), "a=another")).toEqual([row("a"), row("b")]);
});

test("rows that are moved, taken away or added stay so beside those that are added elsewhere", () => {
  const theirs = known(rows(row("a", { coefficient: 2 }), row("new"), row("c")), "new=b");
  expectRows(rows(row("b")), theirs).toEqual([row("new"), row("c")]);
  expectRows(rows(row("b"), row("a", { enabled: false })), theirs).toEqual([
    row("new"),
    row("a", { coefficient: 2, enabled: false }),
    row("c"),
  ]);
  expectRows(rows(row("a"), row("c", { coefficient: 5 }), row("b")), theirs).toEqual([
    row("a", { coefficient: 2 }),
    row("c"),
    row("new"),
  ]);
  expectRows(rows(row("b")), known(rows(row("b"), row("a")))).toEqual([row("b"), row("a")]);
});

test("a number goes with its mode", () => {
  const mine = rows(row("a", { coefficient: 1 }), row("b", { mode: "ablate", coefficient: 1, cells: [] }));
  const theirs = [row("a", { mode: "clamp" }), row("b", { coefficient: 5 })];
  expectRows(mine, known(rows(...theirs))).toEqual(theirs);
});
