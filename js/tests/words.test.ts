import { expect, test } from "vitest";
import { brush, type Cell, same, summary } from "../src/widget/cells";
import { niceCeil, range, signed } from "../src/widget/scale";
import { templateParts } from "../src/widget/template";
import { state, traits } from "./fakes";

const row = state().steering[0];
const direction = traits().directions[0];

test("nice numbers are the next ones upwards", () => {
  expect([0.013, 0.9, 1, 2.2, 6.1, 9, 47].map(niceCeil)).toEqual(
    [0.02, 1, 1, 3, 8, 10, 50].map((x) => expect.closeTo(x)),
  );
});

test("a slider reaches one and a half residual norms either way", () => {
  if (!row) throw new Error("no row");
  expect(range(row, direction)).toEqual({ min: -6, max: 6, step: 0.1 });
  expect(range({ ...row, coefficient: -17 }, direction).min).toBe(-20);
  expect(range({ ...row, mode: "ablate", coefficient: 1 }, direction)).toEqual({
    min: 0,
    max: 1,
    step: 0.05,
  });
});

test("signs are spoken for in both ways, and zero has none", () => {
  expect([signed(1), signed(-0.5), signed(-0.001)]).toEqual(["+1.00", "−0.50", "0.00"]);
});

test("brushing puts in and takes out", () => {
  const a: Cell = [0, "resid_pre"];
  const b: Cell = [1, "mlp_out"];
  expect(brush([a], [a, b], true)).toEqual([a, b]);
  expect(brush([a, b], [a], false)).toEqual([b]);
  expect(same([a, b], [b, a])).toBe(true);
  expect(same([a], [a, b])).toBe(false);
});

test("what is chosen is said in words", () => {
  const { info } = traits();
  expect(summary(info, [])).toBe("no site: it does nothing");
  expect(summary(info, [[2, "resid_pre"]])).toBe("resid_pre[2]: resid_pre of block 2 in words");
  expect(
    summary(info, [
      [2, "resid_pre"],
      [3, "resid_pre"],
    ]),
  ).toBe("2 sites in 2 layers");
});

test("the template is told from the prompt, token by token", () => {
  const parts = templateParts(["<|user|>", "\n", "How", " are", " you", "<|end|>", "\n"], "How are you");
  expect(parts.filter((part) => part.own).map((part) => part.text)).toEqual(["How", " are", " you"]);
  expect(parts.map((part) => part.text).join("")).toBe("<|user|>↵How are you<|end|>↵");
});

test("a prompt that is not in the tokens as it stands leaves all of them template", () => {
  expect(templateParts(["▁How", "▁are"], "How are").some((part) => part.own)).toBe(false);
});
