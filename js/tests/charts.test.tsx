import { render } from "preact";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { ticks } from "../src/widget/charts/axis";
import { DEEP, digits, scaleOf, shade } from "../src/widget/charts/colour";
import { Heatmap } from "../src/widget/charts/Heatmap";
import { Scatter } from "../src/widget/charts/Scatter";
import css from "../src/widget/css/charts.css?raw";
import { frame } from "./fakes";

let root: HTMLElement;
beforeEach(() => {
  root = document.createElement("div");
  document.body.append(root);
});
afterEach(() => {
  render(null, root);
  root.remove();
});
const press = (key: string) =>
  document.activeElement?.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));

describe("scales", () => {
  test("a sequential scale covers what there is, a diverging one both signs alike", () => {
    expect(scaleOf([1, null, Number.NaN, 3], "KL")).toMatchObject({ min: 1, max: 3 });
    expect(scaleOf([-0.2, 1], "cosine", "diverging")).toMatchObject({ min: -1, max: 1 });
    expect(scaleOf([], "KL")).toMatchObject({ min: 0, max: 1 });
    expect(scaleOf([2, 2], "KL")).toMatchObject({ min: 2, max: 3 });
  });

  test("a shade is as deep as its number is far along the scale", () => {
    const kl = scaleOf([0, 4], "KL");
    expect([0, 1, 4, 9].map((value) => shade(kl, value).depth)).toEqual([0, 0.25, 1, 1]);
    const cosine = scaleOf([-1, 1], "cosine", "diverging");
    expect(shade(cosine, -0.5)).toEqual({ depth: 0.5, sign: "-" });
    expect(digits(cosine, -0.5)).toBe("−0.50");
  });

  test("ticks are round and cover the data", () => {
    expect(ticks(0.03, 0.97)).toEqual([0, 0.2, 0.4, 0.6, 0.8, 1]);
    expect(ticks(-3, 7)).toEqual([-4, -2, 0, 2, 4, 6, 8]);
    expect(ticks(2, 2)).toEqual([2]);
  });
});

/** What the style sheet says, as linear RGB. */
function linear(hex: string): number[] {
  const full = hex.length === 4 ? hex.replace(/[0-9a-f]/gi, "$&$&") : hex;
  return [1, 3, 5].map((i) => {
    const c = Number.parseInt(full.slice(i, i + 2), 16) / 255;
    return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  });
}
const times = (m: number[][], v: number[]) =>
  m.map((row) => row.reduce((sum, x, i) => sum + x * (v[i] ?? 0), 0));
const M1 = [
  [0.4122214708, 0.5363325363, 0.0514459929],
  [0.2119034982, 0.6806995451, 0.1073969566],
  [0.0883024619, 0.2817188376, 0.6299787005],
];
const M2 = [
  [0.2104542553, 0.793617785, -0.0040720468],
  [1.9779984951, -2.428592205, 0.4505937099],
  [0.0259040371, 0.7827717662, -0.808675766],
];
const M2_BACK = [
  [1, 0.3963377774, 0.2158037573],
  [1, -0.1055613458, -0.0638541728],
  [1, -0.0894841775, -1.291485548],
];
const M1_BACK = [
  [4.0767416621, -3.3077115913, 0.2309699292],
  [-1.2684380046, 2.6097574011, -0.3413193965],
  [-0.0041960863, -0.7034186147, 1.707614701],
];
const oklab = (hex: string) => times(M2, times(M1, linear(hex)).map(Math.cbrt));
const back = (lab: number[]) =>
  times(
    M1_BACK,
    times(M2_BACK, lab).map((x) => x ** 3),
  );
const luminance = (rgb: number[]) => times([[0.2126, 0.7152, 0.0722]], rgb)[0] ?? 0;
const contrast = (a: number, b: number) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);

describe.each([
  ["light" as const, ".sl-app {"],
  ["dark" as const, '.sl-app[data-theme="dark"] {'],
])("the ramps in the %s theme", (theme, rule) => {
  const block = css.slice(css.indexOf(rule), css.indexOf("}", css.indexOf(rule)));
  const colour = (name: string) => block.match(new RegExp(`--sl-${name}: (#[0-9a-f]+)`))?.[1] ?? "";
  const steps = Array.from({ length: 101 }, (_, i) => i / 100);

  test.each(["high", "high-minus"])("text is readable on every shade up to --sl-%s", (end) => {
    const [low, high] = [oklab(colour("low")), oklab(colour(end))];
    for (const t of steps) {
      const mixed = back(low.map((x, i) => x + t * ((high[i] ?? 0) - x)));
      const text = colour(t >= DEEP[theme] ? "ink-deep" : "ink");
      expect(contrast(luminance(mixed), luminance(linear(text)))).toBeGreaterThanOrEqual(4.5);
    }
  });

  test("either end differs from the ground in lightness by more than half of the range", () => {
    for (const end of ["high", "high-minus"]) {
      expect(Math.abs((oklab(colour(end))[0] ?? 0) - (oklab(colour("low"))[0] ?? 0))).toBeGreaterThan(0.5);
    }
  });
});

describe("the heatmap", () => {
  const values = [
    [0, 1, 2],
    [3, null, null],
  ];
  const chosen = vi.fn();
  const draw = () =>
    render(
      <Heatmap
        label="KL by layer and coefficient"
        rows={{ title: "layer", labels: ["0", "1"] }}
        columns={{ title: "coefficient", labels: ["-1", "0", "1"] }}
        scale={scaleOf(values.flat(), "KL")}
        cell={(row, column) => ({
          value: values[row]?.[column] ?? null,
          ...(row === 1 && column === 2 ? { reason: "KL above 0.1" } : {}),
        })}
        marked={{ place: [0, 2], words: "the winner" }}
        rejected="rejected"
        chosen={[0, 0]}
        onChoose={chosen}
      />,
      root,
    );
  const cell = (place: string) => root.querySelector<HTMLElement>(`[data-place="${place}"]`);

  test("every cell says its place and its number, and why it has none", () => {
    draw();
    expect(cell("0,1")?.getAttribute("aria-label")).toBe("0, 0: KL 1.00");
    expect(cell("1,1")?.getAttribute("aria-label")).toBe("1, 0: not measured yet");
    expect(cell("1,2")?.getAttribute("aria-label")).toBe("1, 1: KL above 0.1");
    expect(cell("0,2")?.dataset.marked).toBe("true");
    expect(cell("0,0")?.getAttribute("aria-selected")).toBe("true");
    const legend = root.querySelector(".sl-legend")?.textContent;
    for (const words of ["KL", "0.00", "3.00", "the winner", "rejected", "not measured yet"])
      expect(legend).toContain(words);
  });

  test("a cell below 0 has a sign besides its colour, which the legend tells, and one near 0 has none", () => {
    const numbers = [-1, -0.05, 0.4];
    render(
      <Heatmap
        label="scores"
        rows={{ title: "layer", labels: ["0"] }}
        columns={{ title: "coefficient", labels: ["-1", "0", "1"] }}
        scale={scaleOf(numbers, "score", "diverging")}
        cell={(_, column) => ({ value: numbers[column] ?? null })}
      />,
      root,
    );
    const signs = ["0,0", "0,1", "0,2"].map((place) => cell(place)?.dataset);
    expect(signs.map((one) => [one?.sign, one?.slight])).toEqual([
      ["-", "false"],
      ["-", "true"],
      ["+", "false"],
    ]);
    expect(root.querySelector(".sl-legend")?.textContent).toContain("below 0");
    draw();
    expect(root.querySelector(".sl-legend")?.textContent).not.toContain("below 0");
  });

  test("it is walked and chosen from by keys, and the focus is in one cell", async () => {
    draw();
    cell("0,0")?.focus();
    press("ArrowRight");
    press("ArrowDown");
    await frame();
    expect(document.activeElement).toBe(cell("1,1"));
    expect(root.querySelectorAll('[role="gridcell"][tabindex="0"]').length).toBe(1);
    expect(root.querySelector(".sl-say")?.textContent).toBe("1, 0: not measured yet");
    press("End");
    await frame();
    press("Enter");
    expect(chosen).toHaveBeenLastCalledWith(1, 2);
    cell("0,1")?.click();
    expect(chosen).toHaveBeenLastCalledWith(0, 1);
  });
});

test("a scatter is walked from left to right and chosen from by keys", async () => {
  const chosen = vi.fn();
  const points = [
    { x: 3, y: 1, label: "three layers" },
    { x: 1, y: 0, label: "one layer" },
    { x: 2, y: 0.5, label: "two layers", kind: "marked" as const },
  ];
  render(
    <Scatter
      label="Refusal against KL"
      x={{ title: "KL", from: 0 }}
      y={{ title: "refusal rate", from: 0, to: 1 }}
      points={points}
      kinds={{ plain: "measured", marked: "cheapest" }}
      onChoose={chosen}
    />,
    root,
  );
  // SVG knows no tabIndex: by that name every point would be a stop of Tab
  const stops = root.querySelectorAll('[role="option"]:is([tabindex="0"])');
  expect(stops.length).toBe(1);
  root.querySelector<SVGElement>('[data-point="1"]')?.focus();
  press("ArrowRight");
  await frame();
  expect(document.activeElement?.getAttribute("aria-label")).toBe("two layers");
  expect(root.querySelector(".sl-say")?.textContent).toBe("two layers");
  press("Enter");
  expect(chosen).toHaveBeenLastCalledWith(2);
});

test("the last number of an axis ends inside of the drawing, and many points are drawn smaller", () => {
  const points = Array.from({ length: 200 }, (_, i) => ({ x: i * 1.2e-5, y: i % 2, label: `${i}` }));
  render(<Scatter label="many" x={{ title: "KL", from: 0 }} y={{ title: "rate" }} points={points} />, root);
  const [svg] = root.querySelectorAll("svg");
  const last = [...root.querySelectorAll<SVGElement>('.sl-axis text[text-anchor="middle"]')].at(-1);
  expect(last?.textContent).toBe("0.0025");
  const end = Number(last?.getAttribute("x")) + 3.3 * "0.0025".length;
  expect(end).toBeLessThanOrEqual(Number(svg?.getAttribute("width")));
  expect(root.querySelector<HTMLElement>(".sl-plot")?.dataset.many).toBe("true");
});
