/** The cell that a new lab begins with, and what it is made from. */
import { expect, test } from "vitest";
import { properties } from "../schema/settings.json";
import { cell } from "../src/lab/cell";

const UNSET = { model: "", backend: "here", host: "", ahead: null } as const;
const lines = (set: Partial<Parameters<typeof cell>[0]>) => cell({ ...UNSET, ...set }).split("\n");

test("without any setting it is what a person writes who has none", () => {
  expect(cell(UNSET)).toBe("import steerlab as sl\n\nlab = sl.Lab()\nlab");
});

test.each([
  [{ model: "Qwen/Qwen2.5-1.5B-Instruct" }, 'sl.Lab("Qwen/Qwen2.5-1.5B-Instruct")'],
  [{ backend: "ndif" as const }, "sl.Lab(remote=True)"],
  [{ backend: "ndif" as const, host: "http://127.0.0.1:5001" }, 'sl.Lab(host="http://127.0.0.1:5001")'],
  [{ model: "a/b", backend: "ndif" as const }, 'sl.Lab("a/b", remote=True)'],
  [{ model: "a/b", backend: "ndif" as const, host: "http://x" }, 'sl.Lab("a/b", host="http://x")'],
  [{ host: "http://x" }, "sl.Lab()"],
])("%o opens %s", (set, lab) => {
  expect(lines(set)[2]).toBe(`lab = ${lab}`);
});

test.each([
  ["C:\\models\\new", '"C:\\\\models\\\\new"'],
  [`Ada's "own"`, `"Ada's \\"own\\""`],
  ['"); import os  #', '"\\"); import os  #"'],
  [" org/name\n", '"org/name"'],
  ["a\nb\tc", '"a\\nb\\tc"'],
  ["modèles/日本", '"modèles/日本"'],
])("%j stays one string of Python", (model, written) => {
  const source = lines({ model });
  expect(source).toHaveLength(4);
  expect(source[2]).toBe(`lab = sl.Lab(${written})`);
});

test("texts are made ahead as the lab does, but where a number is set, none included", () => {
  expect(lines({ ahead: 8 }).slice(2)).toEqual(["lab = sl.Lab()", "lab.ahead = 8", "lab"]);
  expect(lines({ ahead: 0 })[3]).toBe("lab.ahead = 0");
});

test("every setting has a default, which the server's overrides need, and words that fit into the editor", () => {
  for (const [name, { title, description, ...more }] of Object.entries(properties)) {
    expect(more, name).toHaveProperty("default");
    expect(title, name).toMatch(/^[A-Z]/);
    expect(description.match(/\.(?= |$)/g), "is one sentence").toHaveLength(1);
  }
});
