/** A recipe's fingerprint, as `Recipe.fingerprint` computes it: a file that was altered has another one than it says. */
import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex } from "@noble/hashes/utils.js";
import type { Step } from "./file";

/** 16 hex digits that stand for the vectors, sites, tokens, numbers and their order, but not for names. */
export function fingerprint(steps: readonly Step[]): string {
  const digest = sha256.create(); // the browser's own is missing where a page is not served over https
  for (const step of steps) {
    digest.update(new TextEncoder().encode(about(step)));
    for (const { bytes } of step.directions) digest.update(bytes);
    if (step.gate) digest.update(step.gate.direction.bytes);
  }
  return bytesToHex(digest.digest()).slice(0, 16);
}

/** A step without its vectors, letter by letter as Python's `json.dumps(..., sort_keys=True)` writes it. */
function about(step: Step): string {
  const { kind, directions, layers, sites, tokens, gate } = step;
  const said: { [name: string]: string } = {
    kind: text(kind),
    directions: String(directions.length),
    layers: layers === "all" ? text(layers) : list(layers),
    sites: list(sites.map((s) => text(typeof s === "string" ? s : `blocks.${s.layer}.hook_${s.point}`))),
    tokens: typeof tokens === "string" ? text(tokens) : list(tokens),
    threshold: gate ? float(gate.threshold) : "null",
    ...numbers(step),
  };
  const names = Object.keys(said).sort();
  return `{${names.map((name) => `${text(name)}: ${said[name]}`).join(", ")}}`;
}

function numbers(step: Step): { [name: string]: string } {
  switch (step.kind) {
    case "add":
      return { coefficient: float(step.coefficient), keep_norm: String(step.keepNorm) };
    case "ablate":
      return { strength: float(step.strength), one_sided: String(step.oneSided) };
    case "clamp":
      return { value: float(step.value) };
  }
}

const text = (word: string) => `"${word}"`; // of letters that need no escape
const list = (items: readonly (string | number)[]) => `[${items.join(", ")}]`;

/** A float as Python's `repr`: the same shortest digits, but with a point, and exponents from another size on. */
export function float(x: number): string {
  if (Object.is(x, -0)) return "-0.0";
  const size = Math.abs(x);
  if (size !== 0 && (size < 1e-4 || size >= 1e16)) {
    const [digits, exponent = ""] = x.toExponential().split("e");
    return `${digits}e${exponent[0]}${exponent.slice(1).padStart(2, "0")}`;
  }
  return Number.isInteger(x) ? `${x}.0` : String(x);
}
