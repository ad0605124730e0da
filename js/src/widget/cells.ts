/** Sets of sites, as the panel keeps them: [layer, point] pairs in forward order. */
import type { DirectionInfo, FrontierAnswer, Info, SteeringState } from "../protocol";

export type Cell = SteeringState["cells"][number];
export type Point = Cell[1];

export interface Preset {
  name: string;
  hint: string;
  cells: Cell[];
}

const PAPER: readonly Point[] = ["resid_pre", "attn_out", "mlp_out"];

export const key = ([layer, point]: Cell): string => `${point}[${layer}]`;

export function same(a: readonly Cell[], b: readonly Cell[]): boolean {
  const keys = new Set(a.map(key));
  return keys.size === new Set(b.map(key)).size && b.every((cell) => keys.has(key(cell)));
}

/** `cells` with those of `brushed` put in or taken out. */
export function brush(cells: readonly Cell[], brushed: readonly Cell[], on: boolean): Cell[] {
  const keys = new Set(brushed.map(key));
  const rest = cells.filter((cell) => !keys.has(key(cell)));
  return on ? [...rest, ...brushed] : rest;
}

export function whole(info: Info, points: readonly Point[]): Cell[] {
  const layers = Array.from({ length: info.n_layers }, (_, layer) => layer);
  return layers.flatMap((layer) =>
    points.filter((p) => info.points.includes(p)).map((p): Cell => [layer, p]),
  );
}

export function ownCells(direction: DirectionInfo | undefined): Cell[] {
  return direction?.point && direction.layer !== null ? [[direction.layer, direction.point]] : [];
}

/** Where a direction acts before anybody says otherwise: addition and clamping at its own site, ablation everywhere, as in the paper. */
export function defaultCells(mode: SteeringState["mode"], info: Info, direction?: DirectionInfo): Cell[] {
  return mode === "ablate" ? whole(info, PAPER) : ownCells(direction);
}

/** Where ablation at the fewest layers does as much as at all of them; nowhere, where a frontier has no such layers. */
export function keyCells(info: Info, { subsets }: FrontierAnswer): Cell[] {
  const enough = subsets.filter(({ keeps, layers }) => keeps && layers.length < info.n_layers);
  const [fewest] = enough.sort((a, b) => a.layers.length - b.layers.length);
  return whole(info, PAPER).filter(([layer]) => fewest?.layers.includes(layer));
}

/** frontier: that of ablating the direction, where it was measured. */
export function presets(
  info: Info,
  direction: DirectionInfo | undefined,
  frontier?: FrontierAnswer | null,
): Preset[] {
  const own = ownCells(direction);
  const key = frontier ? keyCells(info, frontier) : [];
  const list = [
    {
      name: "Paper’s ablation",
      hint: "Every layer at resid_pre, attn_out and mlp_out",
      cells: whole(info, PAPER),
    },
    { name: "Own layer", hint: "Where the direction was found", cells: own },
    {
      name: "Key layers",
      hint: "The fewest layers at which ablation does as much as at all of them, by the frontier in the tab Sweep",
      cells: key,
    },
  ].filter(({ cells }) => cells.length);
  return [...list, { name: "None", hint: "No site: the direction does nothing", cells: [] }];
}

/** The site in words, as the kernel says it. */
export function words(info: Info, [layer, point]: Cell): string {
  return info.sites[info.points.indexOf(point)]?.[layer] ?? "";
}

/** How many sites there are, in words. */
export function summary(info: Info, cells: readonly Cell[]): string {
  const [only] = cells;
  if (!only) return "no site: it does nothing";
  if (cells.length === 1) return `${key(only)}: ${words(info, only)}`;
  const layers = new Set(cells.map(([layer]) => layer)).size;
  return `${cells.length} sites in ${layers} ${layers === 1 ? "layer" : "layers"}`;
}
