/** A recipe in plain words: each step in the line that Python has for it (`recipes.describe`), and what that line means. */
import type { Direction, Json, Point, Site, Step } from "./file";

/** A piece of a step's line; names stand out. */
export interface Piece {
  text: string;
  look?: "kind" | "name";
}

/** A fact, by its name. */
export type Fact = readonly [name: string, value: string];

const EVERY: Record<Point, string> = {
  resid_pre: "the input of every block",
  attn_out: "what attention adds in every block",
  resid_mid: "between attention and the MLP of every block",
  mlp_out: "what the MLP adds in every block",
  resid_post: "the output of every block",
};

/** "add refusal +1 at resid_pre[6]": Python's line, but for its quotes and brackets. */
export function line(step: Step): Piece[] {
  const { directions, sites, gate } = step;
  const names = directions.flatMap<Piece>(({ name }, i) => [
    ...(i ? [{ text: " and " }] : []),
    { text: name, look: "name" },
  ]);
  const layers = sites.every((site) => typeof site !== "string") ? "" : ` of ${layersOf(step.layers)}`;
  const tokens = step.tokens === "all" ? "" : `, tokens ${asList(step.tokens)}`;
  const at = ` ${amount(step)} at ${sites.map(short).join(", ")}${layers}${tokens}`;
  return [
    { text: step.kind, look: "kind" },
    { text: " " },
    ...names,
    { text: at },
    ...(gate
      ? [
          { text: " where " },
          { text: gate.direction.name, look: "name" as const },
          { text: ` > ${general(gate.threshold)}` },
        ]
      : []),
  ];
}

function amount(step: Step): string {
  switch (step.kind) {
    case "add":
      return `${step.coefficient < 0 || Object.is(step.coefficient, -0) ? "" : "+"}${general(step.coefficient)}${step.keepNorm ? ", norm kept" : ""}`;
    case "ablate":
      return `strength ${general(step.strength)}${step.oneSided ? ", one-sided" : ""}`;
    case "clamp":
      return `to ${general(step.value)}`;
  }
}

function layersOf(layers: Step["layers"]): string {
  if (layers === "all") return "all layers";
  if (!layers.length) return "no layers";
  return `layer${layers.length > 1 ? "s" : ""} ${layers.join(", ")}`;
}

const asList = (tokens: string | readonly number[]) =>
  typeof tokens === "string" ? tokens : tokens.map(minus).join(", ");

/** What a step's line means, for a person who meets it for the first time. */
export function meaning(step: Step): Fact[] {
  return [
    ["does", deed(step)],
    ["where", where(step).join("; ") || "nowhere"],
    ["tokens", tokensIn(step.tokens)],
    ...(step.gate
      ? [
          [
            "only if",
            `before the step, the token’s projection on ${step.gate.direction.name} is above ${general(step.gate.threshold)}`,
          ] as const,
        ]
      : []),
  ];
}

function deed(step: Step): string {
  const [first] = step.directions as [Direction];
  switch (step.kind) {
    case "add": {
      const kept = step.keepNorm ? "; the stream keeps its norm" : "";
      return `adds ${general(step.coefficient)} × the vector${share(step.coefficient * first.norm, first)}${kept}`;
    }
    case "ablate": {
      const part = step.strength === 1 ? "removes" : `removes ${general(step.strength * 100)} % of`;
      const what =
        step.directions.length > 1 ? "what lies in the space that they span" : "the component along it";
      return `${part} ${what}${step.oneSided ? ", where that points the same way as the vector" : ""}`;
    }
    case "clamp":
      return `sets the component along it to ${general(step.value)}${share(step.value, first)}`;
  }
}

/** A length beside that of the stream where the direction was found. */
function share(length: number, { residualNorm }: Direction): string {
  return residualNorm && Number.isFinite(length)
    ? `, ${general(length / residualNorm, 2)} × the stream’s mean norm there`
    : "";
}

/** Where a step acts, a phrase for each point. */
export function where({ layers, sites }: Step): string[] {
  return sites.flatMap((site) => {
    if (typeof site !== "string") return [describe(site)];
    if (layers === "all") return [EVERY[site]];
    return layers.length ? [at(site, layers)] : [];
  });
}

function at(point: Point, layers: readonly number[]): string {
  const [only] = layers as [number];
  if (layers.length === 1) return describe({ layer: only, point });
  const blocks = numbered("block", layers);
  switch (point) {
    case "resid_pre": {
      const before = layers.filter((layer) => layer).map((layer) => layer - 1);
      const others = `output${before.length > 1 ? "s" : ""} of ${numbered("block", before)}`;
      return `inputs of ${blocks} = ${layers.includes(0) ? "the embeddings and " : ""}${others}`;
    }
    case "resid_post":
      return `outputs of ${blocks} = inputs of ${numbered(
        "block",
        layers.map((layer) => layer + 1),
      )}`;
    case "resid_mid":
      return `between attention and the MLP of ${blocks}`;
    case "attn_out":
      return `what attention adds in ${blocks}`;
    case "mlp_out":
      return `what the MLP adds in ${blocks}`;
  }
}

/** "block 3", "blocks 4 to 8", "blocks 2, 5 and 7". */
export function numbered(what: string, numbers: readonly number[]): string {
  const [first, last] = [numbers[0] ?? 0, numbers.at(-1) ?? 0];
  if (numbers.length < 2) return `${what} ${first}`;
  const inARow = numbers.length > 2 && last - first === numbers.length - 1;
  return `${what}s ${inARow ? `${first} to ${last}` : listed(numbers)}`;
}

/** "−3 and −1". */
function listed(numbers: readonly number[]): string {
  const words = numbers.map(minus);
  return [words.slice(0, -1).join(", "), words.at(-1)].filter(Boolean).join(" and ");
}

function tokensIn(tokens: Step["tokens"]): string {
  if (tokens === "all") return "all, those of the prompt and those that the model writes";
  if (tokens === "prompt") return "those of the prompt, template included";
  if (tokens === "generated") return "those that the model writes";
  if (tokens.length === 1 && tokens[0] === -1) return "the last one of the prompt";
  return `those at ${listed(tokens)} of the prompt, counted from its end: −1 is its last`;
}

export const short = (site: Point | Site) =>
  typeof site === "string" ? site : `${site.point}[${site.layer}]`;

/** A site in words that leave no doubt about the layer, as `Site.describe` has it. */
export function describe({ layer, point }: Site): string {
  switch (point) {
    case "resid_pre":
      return `input of block ${layer} = ${layer ? `output of block ${layer - 1}` : "the embeddings"}`;
    case "resid_post":
      return `output of block ${layer} = input of block ${layer + 1}, if there is one`;
    case "resid_mid":
      return `between attention and the MLP of block ${layer}`;
    case "attn_out":
      return `what attention adds in block ${layer}`;
    case "mlp_out":
      return `what the MLP adds in block ${layer}`;
  }
}

/** What is known of a direction, without what its provenance adds. */
export function facts({ site, norm, residualNorm, width, model }: Direction): Fact[] {
  const times = residualNorm ? `, ${general(norm / residualNorm, 2)} × the stream’s` : "";
  return [
    ["site", site ? `${short(site)}, the ${describe(site)}` : "not known"],
    ["norm", `${general(norm, 4)}${times}`],
    ...(residualNorm === null ? [] : [["stream’s norm", general(residualNorm, 4)] as const]),
    ["width", `${width} numbers (d_model)`],
    ["model", model ?? "not known"],
  ];
}

/** A value without parts, as text; whole numbers are whole. */
export function scalar(value: Json): string {
  if (typeof value === "number") return Number.isInteger(value) ? minus(value) : general(value);
  return value === null ? "none" : String(value);
}

/** A number with as many digits as are asked for, as Python's `:g` writes it, with a real minus. */
export function general(x: number, digits = 6): string {
  if (x === 0) return Object.is(x, -0) ? "−0" : "0";
  const [, exponent] = x
    .toExponential(digits - 1)
    .split("e")
    .map(Number) as [number, number];
  if (exponent >= -4 && exponent < digits) return minus(Number(x.toPrecision(digits)));
  const [mantissa, power = ""] = x.toExponential(digits - 1).split("e");
  return `${minus(Number(mantissa))}e${power[0] === "-" ? "−" : "+"}${power.slice(1).padStart(2, "0")}`;
}

const minus = (x: number) => String(x).replace(/^-/, "−");

/** "3 steps", "1 direction". */
export const counted = (n: number, what: string) => `${n} ${what}${n === 1 ? "" : "s"}`;
