/**
 * What a `.steer.json` file holds, read as `Recipe.from_json` reads it (`steerlab/recipes.py`): what Python refuses is refused
 * here, in a sentence that says what is wrong and what to do. Nothing is guessed, and nothing is run.
 */
import type { LoadQuestion, Trouble } from "../../protocol";
import { fingerprint } from "./fingerprint";

export const FORMAT = "steerlab.recipe/1";
export const POINTS = ["resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post"] as const;

export type Point = NonNullable<LoadQuestion["point"]>;
export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };
export type Scope = "all" | "prompt" | "generated";

export interface Site {
  layer: number;
  point: Point;
}

export interface Direction {
  name: string;
  site: Site | null;
  model: string | null;
  /** The mean norm of the stream at the site. */
  residualNorm: number | null;
  provenance: { [name: string]: Json };
  /** Little-endian float32. */
  bytes: Uint8Array;
  width: number;
  norm: number;
}

interface Anywhere {
  directions: Direction[];
  layers: "all" | number[];
  sites: (Point | Site)[];
  tokens: Scope | number[];
  gate: { direction: Direction; threshold: number } | null;
}

export interface Add extends Anywhere {
  kind: "add";
  coefficient: number;
  keepNorm: boolean;
}

export interface Ablate extends Anywhere {
  kind: "ablate";
  strength: number;
  oneSided: boolean;
}

export interface Clamp extends Anywhere {
  kind: "clamp";
  value: number;
}

export type Step = Add | Ablate | Clamp;

export interface Recipe {
  directions: Direction[];
  steps: Step[];
  fingerprint: string;
}

/** What came of a file: a recipe, what is wrong with it, or both, where it can be read but was altered. */
export interface Read {
  recipe: Recipe | null;
  trouble: Trouble | null;
}

const AGAIN = "Save it again.";
const NEWER = "A newer steerlab may have written it: update steerlab.";

/** What is wrong, to be caught by `read`. */
class Wrong extends Error {
  constructor(
    readonly what: string,
    readonly hint = AGAIN,
  ) {
    super(what);
  }
}

export function read(text: string): Read {
  try {
    const data = parsed(text.replace(/^\uFEFF/, ""));
    const recipe = made(data);
    const altered = recipe.fingerprint !== data.fingerprint;
    return { recipe, trouble: altered ? ALTERED : null };
  } catch (error) {
    if (!(error instanceof Wrong)) throw error;
    return { recipe: null, trouble: { what: error.what, hint: error.hint } };
  }
}

const ALTERED: Trouble = {
  what: "the recipe does not match its own fingerprint, so it was altered after it was saved",
  hint: "Save it again; to edit a recipe, edit it in Python. Below stands what the file says now.",
};

type Table = { [name: string]: Json };

function parsed(text: string): Table {
  if (!text.trim()) throw new Wrong("the file is empty", "Save the recipe again, or copy the file again.");
  let data: Json;
  try {
    data = JSON.parse(text.replace(TOKENS, quoted));
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new Wrong(
      `the recipe is no complete JSON text (${why})`,
      "It may be truncated: save it again, or copy the file again.",
    );
  }
  const format = isTable(data) ? data.format : undefined;
  if (!isTable(data) || format !== FORMAT) throw foreign(data, format);
  return data;
}

function foreign(data: Json, format: Json | undefined): Wrong {
  const what = `this is no recipe of the format ${FORMAT}`;
  if (typeof format === "string")
    return new Wrong(`${what}, but ${format}`, format.startsWith("steerlab.") ? NEWER : OTHER);
  return new Wrong(isTable(data) ? `${what}: it names no format` : what, OTHER);
}

const OTHER = "It may be a file of another program: open it as text to see.";

/** Strings, which are let be, and numbers. */
const TOKENS = /"[^"\\]*(?:\\.[^"\\]*)*"|-?Infinity|NaN|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;

/** What Python writes and JavaScript does not read, or not whole: as a string, which is how it is shown. */
function quoted(token: string): string {
  const large = /^-?\d+$/.test(token) && !Number.isSafeInteger(Number(token));
  return large || /^(NaN|-?Infinity)$/.test(token) ? `"${token}"` : token;
}

function made(data: Table): Recipe {
  const directions = listed(data.directions, "directions").map(direction);
  const steps = listed(data.interventions, "interventions").map((one, i) => step(one, i + 1, directions));
  return { directions, steps, fingerprint: fingerprint(steps) };
}

function direction(given: Json, index: number): Direction {
  const where = `direction ${index + 1}`;
  if (!isTable(given)) throw damaged(`${where} is no object`);
  const { vector, site, model, residual_norm, provenance } = given;
  const bytes = typeof vector === "string" ? decoded(vector) : null;
  if (!bytes?.length || bytes.length % 4)
    throw damaged(`the vector of ${where} is no base64 of float32 numbers`);
  const view = new DataView(bytes.buffer);
  const numbers = Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
  if (!numbers.every(Number.isFinite))
    throw damaged(`the vector of ${where} has numbers that are NaN or infinite`);
  const norm = Math.sqrt(numbers.reduce((sum, x) => sum + x * x, 0));
  if (!norm) throw damaged(`the vector of ${where} is zero everywhere`);
  return {
    name: typeof given.name === "string" ? given.name : "direction",
    site: site === undefined || site === null ? null : parseSite(site, where),
    model: typeof model === "string" ? model : null,
    residualNorm: typeof residual_norm === "number" ? residual_norm : null,
    provenance: isTable(provenance) ? provenance : {},
    bytes,
    width: numbers.length,
    norm,
  };
}

function decoded(base64: string): Uint8Array<ArrayBuffer> | null {
  try {
    return Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
  } catch {
    return null;
  }
}

const SHARED = ["kind", "directions", "layers", "sites", "tokens", "gate"];
const OWN = { add: ["coefficient", "keep_norm"], ablate: ["strength", "one_sided"], clamp: ["value"] };

function step(given: Json, n: number, directions: readonly Direction[]): Step {
  const where = `step ${n}`;
  if (!isTable(given)) throw damaged(`${where} is no object`);
  const kind = given.kind;
  if (kind !== "add" && kind !== "ablate" && kind !== "clamp")
    throw damaged(`${where} is of a kind that is not known, ${JSON.stringify(kind)}`, NEWER);
  const strange = Object.keys(given).find((key) => ![...SHARED, ...OWN[kind]].includes(key));
  if (strange !== undefined) throw damaged(`${where} has something that is not known, “${strange}”`, NEWER);
  const pick = (index: Json | undefined): Direction => {
    const found = typeof index === "number" ? directions[index] : undefined;
    if (!found) throw damaged(`${where} names a direction that the file does not have`);
    return found;
  };
  const used = listed(given.directions, `directions of ${where}`).map(pick);
  if (!used.length) throw damaged(`${where} has no direction`);
  if (new Set(used.map((one) => one.width)).size > 1)
    throw damaged(`the directions of ${where} differ in width`);
  const shared: Anywhere = {
    directions: kind === "ablate" ? used : used.slice(0, 1),
    layers: layers(given.layers, where),
    sites: places(given.sites, where),
    tokens: tokens(given.tokens ?? "all", where),
    gate: gate(given.gate, where, pick),
  };
  const number = (key: string, usual?: number) => finite(given[key] ?? usual, `the ${key} of ${where}`);
  switch (kind) {
    case "add":
      return { kind, ...shared, coefficient: number("coefficient", 1), keepNorm: given.keep_norm === true };
    case "ablate":
      if (given.one_sided === true && used.length > 1)
        throw damaged(`${where} is one-sided and of several directions: a subspace has no sides`);
      return { kind, ...shared, strength: number("strength", 1), oneSided: given.one_sided === true };
    case "clamp":
      return { kind, ...shared, value: number("value") };
  }
}

function layers(given: Json | undefined, where: string): "all" | number[] {
  if (given === "all") return "all";
  const some = listed(given, `layers of ${where}`).map((layer) => {
    if (typeof layer !== "number" || !Number.isInteger(layer) || layer < 0)
      throw damaged(`a layer of ${where} is no whole number from 0: ${JSON.stringify(layer)}`);
    return layer;
  });
  return sorted(some);
}

function tokens(given: Json, where: string): Scope | number[] {
  if (given === "all" || given === "prompt" || given === "generated") return given;
  const wrong = damaged(`the tokens of ${where} are not known: ${JSON.stringify(given)}`, NEWER);
  if (!Array.isArray(given) || !given.length) throw wrong;
  const some = given.map((token) => {
    if (typeof token !== "number" || !Number.isInteger(token) || token >= 0) throw wrong;
    return token;
  });
  return sorted(some);
}

function gate(given: Json | undefined, where: string, pick: (index: Json | undefined) => Direction) {
  if (given === undefined || given === null) return null;
  if (!isTable(given)) throw damaged(`the gate of ${where} is no object`);
  return {
    direction: pick(given.direction),
    threshold: finite(given.threshold, `the threshold of ${where}`),
  };
}

/** Points, which are taken at each of the layers, and sites, which stand for themselves; each once. */
function places(given: Json | undefined, where: string): (Point | Site)[] {
  const found = new Map<string, Point | Site>();
  for (const one of listed(given, `sites of ${where}`)) {
    const place = POINTS.find((point) => point === one) ?? parseSite(one, where);
    found.set(JSON.stringify(place), place);
  }
  return [...found.values()];
}

function parseSite(given: Json, where: string): Site {
  const text = typeof given === "string" ? given : "";
  const long = /^blocks\.(\d+)\.hook_(\w+)$/.exec(text);
  const short = /^(\w+)\[(\d+)\]$/.exec(text);
  const [layer, name] = long ? [long[1], long[2]] : [short?.[2], short?.[1]];
  const point = POINTS.find((one) => one === name);
  if (!point) throw damaged(`${where} has a site that is not known, ${JSON.stringify(given)}`);
  return { layer: Number(layer), point };
}

function listed(given: Json | undefined, what: string): Json[] {
  if (!Array.isArray(given)) throw damaged(`the ${what} are no list`);
  return given;
}

const FLOAT32_MAX = 2 ** 128 - 2 ** 104; // the arithmetic is done in float32

function finite(given: Json | undefined, what: string): number {
  if (typeof given !== "number" || !Number.isFinite(given) || Math.abs(given) > FLOAT32_MAX)
    throw damaged(`${what} is no finite number of 32 bits: ${JSON.stringify(given)}`);
  return given;
}

const sorted = (some: readonly number[]) => [...new Set(some)].sort((a, b) => a - b);

const damaged = (what: string, hint = AGAIN) => new Wrong(`the recipe is damaged: ${what}`, hint);

export function isTable(data: Json | undefined): data is Table {
  return typeof data === "object" && data !== null && !Array.isArray(data);
}
