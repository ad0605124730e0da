/** Files of recipes as the viewer reads them, beside what Python says of the same ones (`tests/ui/recipe_words.py`). */
import { expect, test } from "vitest";
import { type Json, type Read, type Recipe, read, type Step } from "../src/lab/recipes/file";
import { float } from "../src/lab/recipes/fingerprint";
import { describe, facts, general, line, meaning, where } from "../src/lab/recipes/words";
import SAID from "./recipes.json";

const [, ADDED] = SAID as [(typeof SAID)[0], (typeof SAID)[0]];

function recipe(text: string): Recipe {
  const found = read(text);
  expect(found.trouble).toBeNull();
  return found.recipe as Recipe;
}

/** The file of a recipe, changed. */
function changed(change: (data: { [name: string]: Json[] & Json }) => void): Read {
  const data = JSON.parse(ADDED.text);
  change(data);
  return read(JSON.stringify(data));
}

const plain = (text: string) => text.replaceAll("−", "-");

test.each(SAID)("$name: read as Python reads it, with its fingerprint", ({ text, fingerprint, norms }) => {
  const { directions, ...found } = recipe(text);
  expect(found.fingerprint).toBe(fingerprint);
  expect(Object.fromEntries(directions.map((one) => [one.name, one.norm.toPrecision(4)]))).toEqual(
    Object.fromEntries(Object.entries(norms).map(([name, norm]) => [name, Number(norm).toPrecision(4)])),
  );
});

test.each(SAID)("$name: each step in Python's own line", ({ text, lines }) => {
  const bare = (python: string) =>
    python.replaceAll("'", "").replace(/\(([-\d, ]+?),?\)/, (_, tokens: string) => tokens);
  const said = recipe(text).steps.map((step) =>
    plain(
      line(step)
        .map((piece) => piece.text)
        .join(""),
    ),
  );
  expect(said).toEqual(lines.map(bare));
});

test.each(SAID)("$name: each site in Python's own words", ({ text, sites }) => {
  const own = recipe(text).steps.flatMap((step) => step.sites.filter((site) => typeof site !== "string"));
  expect(own.map(describe)).toEqual(sites);
});

const step = (change: object) => ({ ...(recipe(ADDED.text).steps[0] as Step), ...change }) as Step;
const said = (change: object) => Object.fromEntries(meaning(step(change)));

test("several layers are told as blocks, with both names of one stream", () => {
  const at = (layers: number[] | "all", ...sites: string[]) => where(step({ layers, sites }));
  expect(at([4, 5, 6], "resid_pre")).toEqual(["inputs of blocks 4 to 6 = outputs of blocks 3 to 5"]);
  expect(at([0, 2], "resid_pre")).toEqual([
    "inputs of blocks 0 and 2 = the embeddings and output of block 1",
  ]);
  expect(at([1, 3, 4], "resid_post")).toEqual(["outputs of blocks 1, 3 and 4 = inputs of blocks 2, 4 and 5"]);
  expect(at([7], "mlp_out", "attn_out")).toEqual([
    "what the MLP adds in block 7",
    "what attention adds in block 7",
  ]);
  expect(at("all", "resid_mid")).toEqual(["between attention and the MLP of every block"]);
  expect(said({ layers: [], sites: ["resid_pre"] }).where).toBe("nowhere");
});

test("what a step does is told with its size beside the stream", () => {
  const [direction] = recipe(ADDED.text).directions;
  const v = { ...direction, norm: 5, residualNorm: 20 };
  expect(said({ directions: [v], coefficient: -2 }).does).toBe(
    "adds −2 × the vector, −0.5 × the stream’s mean norm there",
  );
  expect(said({ directions: [{ ...v, residualNorm: null }], keepNorm: true }).does).toBe(
    "adds 1 × the vector; the stream keeps its norm",
  );
  const ablate = { kind: "ablate", strength: 1, oneSided: false, directions: [v] };
  expect(said(ablate).does).toBe("removes the component along it");
  expect(said({ ...ablate, strength: 0.25, directions: [v, v] }).does).toBe(
    "removes 25 % of what lies in the space that they span",
  );
  expect(said({ ...ablate, oneSided: true }).does).toContain("where that points the same way as the vector");
  expect(said({ kind: "clamp", value: 10, directions: [v] }).does).toBe(
    "sets the component along it to 10, 0.5 × the stream’s mean norm there",
  );
  expect(said({ tokens: [-1] }).tokens).toBe("the last one of the prompt");
  expect(said({ tokens: [-3, -2] }).tokens).toContain("those at −3 and −2 of the prompt");
  expect(said({ gate: { direction: v, threshold: -0.5 } })["only if"]).toContain("refusal is above −0.5");
});

test("a direction of which little is known says so", () => {
  const [direction] = recipe(ADDED.text).directions as [Recipe["directions"][0]];
  const known = Object.fromEntries(facts({ ...direction, site: null, model: null, residualNorm: null }));
  expect(known).toMatchObject({ site: "not known", model: "not known" });
  expect(known).not.toHaveProperty("stream’s norm");
});

test("numbers of Python that are none of JSON's are read, in a provenance, and whole", () => {
  const text = SAID.find(({ name }) => name === "every option")?.text ?? "";
  expect(text).toContain("NaN");
  const [, second] = recipe(text).directions;
  expect(second?.provenance).toEqual({ loss: "NaN", seed: "9223372036854775809", from: [1, 2] });
});

const WRONG: [string, Read, string, string][] = [
  ["empty", read(" \n"), "the file is empty", "copy the file again"],
  ["truncated", read(ADDED.text.slice(0, 200)), "no complete JSON text", "truncated"],
  ["no JSON", read("PK\u0003\u0004"), "no complete JSON text", "save it again"],
  ["a list", read("[1]"), "no recipe of the format steerlab.recipe/1", "open it as text"],
  ["another file", read('{"a": 1}'), "it names no format", "open it as text"],
  [
    "of a newer steerlab",
    changed((data) => set(data, "format", "steerlab.recipe/2")),
    "steerlab.recipe/2",
    "update",
  ],
  [
    "without directions",
    changed((data) => set(data, "directions", null)),
    "directions are no list",
    "Save it again",
  ],
  [
    "a short vector",
    changed((data) => set(data.directions?.[0], "vector", "AAA=")),
    "vector of direction 1",
    "",
  ],
  [
    "a zero vector",
    changed((data) => set(data.directions?.[0], "vector", "AAAAAA==")),
    "zero everywhere",
    "",
  ],
  [
    "NaN in a vector",
    changed((data) => set(data.directions?.[0], "vector", "AADAfw==")),
    "NaN or infinite",
    "",
  ],
  ["an unknown point", changed((data) => set(data.directions?.[0], "site", "blocks.1.hook_z")), "site", ""],
  ["an unknown kind", changed((data) => set(data.interventions?.[0], "kind", "rotate")), "rotate", "newer"],
  ["an unknown option", changed((data) => set(data.interventions?.[0], "phase", 1)), "“phase”", "newer"],
  [
    "a missing direction",
    changed((data) => set(data.interventions?.[0], "directions", [7])),
    "does not have",
    "",
  ],
  [
    "no number",
    changed((data) => set(data.interventions?.[0], "coefficient", "much")),
    "no finite number",
    "",
  ],
  [
    "a number beyond 32 bits",
    changed((data) => set(data.interventions?.[0], "coefficient", 1e300)),
    "no finite number of 32 bits",
    "",
  ],
  [
    "a layer below 0",
    changed((data) => set(data.interventions?.[0], "layers", [-1])),
    "whole number from 0",
    "",
  ],
  [
    "a token after the end",
    changed((data) => set(data.interventions?.[0], "tokens", [2])),
    "tokens of step 1",
    "",
  ],
];

function set(table: Json | undefined, name: string, value: Json): void {
  (table as { [name: string]: Json })[name] = value;
}

test.each(WRONG)("%s: what is wrong, and what to do", (_, { recipe: found, trouble }, what, hint) => {
  expect(found).toBeNull();
  expect(trouble?.what).toContain(what);
  expect(trouble?.hint.toLowerCase()).toContain(hint.toLowerCase());
});

test("a recipe that was altered is shown, with a warning", () => {
  const { recipe: found, trouble } = changed((data) => set(data.interventions?.[0], "coefficient", 1.5));
  expect(found?.steps[0]).toMatchObject({ kind: "add", coefficient: 1.5 });
  expect(trouble?.what).toContain("does not match its own fingerprint");
});

test("a byte order mark and sites as they are printed are read", () => {
  expect(recipe(`\uFEFF${ADDED.text}`).fingerprint).toBe(ADDED.fingerprint);
  const short = changed((data) => set(data.interventions?.[0], "sites", ["resid_pre[6]"]));
  expect(short.trouble).toBeNull();
});
test("numbers are written as Python writes them", () => {
  expect([0, -0, 1, 0.1, 1e-4, 1e-5, 1.5e-7, 1e15, 1e16, 1.25e22].map(float)).toEqual([
    "0.0",
    "-0.0",
    "1.0",
    "0.1",
    "0.0001",
    "1e-05",
    "1.5e-07",
    "1000000000000000.0",
    "1e+16",
    "1.25e+22",
  ]);
  expect([1234567, 0.00001234, 999999.9, -0.5, 12.3456789].map((x) => general(x))).toEqual([
    "1.23457e+06",
    "1.234e−05",
    "1e+06",
    "−0.5",
    "12.3457",
  ]);
});
