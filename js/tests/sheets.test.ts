import { expect, test } from "vitest";

declare global {
  interface ImportMeta {
    glob(pattern: string, options: object): Record<string, string>;
  }
}
const SHEETS = import.meta.glob("../src/widget/css/*.css", { query: "?raw", import: "default", eager: true });
const SHARED = [".sl-app"]; // each sheet may give it the variables that it uses

/** The classes that a sheet styles by their name alone, as what has them looks wherever it stands. */
function looks(css: string): Set<string> {
  const rules = css.replace(/\/\*.*?\*\//gs, "").matchAll(/^([^\s@}][^{}]*)\{/gm);
  const selectors = [...rules].flatMap(([, list = ""]) => list.split(/,(?![^(]*\))/));
  const bare = selectors.map((selector) => selector.trim().replace(/^\.sl-app /, ""));
  return new Set(bare.filter((selector) => /^\.[\w-]+$/.test(selector) && !SHARED.includes(selector)));
}

test("a class has its look from one sheet: two things of one name would dress each other", () => {
  const homes = new Map<string, string[]>();
  for (const [path, css] of Object.entries(SHEETS))
    for (const name of looks(css)) homes.set(name, [...(homes.get(name) ?? []), path.replace(/.*\//, "")]);
  expect(homes.size).toBeGreaterThan(100);
  expect([...homes].filter(([, sheets]) => sheets.length > 1)).toEqual([]);
});
