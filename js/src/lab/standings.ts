/** Where the panels of the page stand, as they told last, and how a status bar says it. */
import { hearStandings, type Standing } from "../widget/jupyterlab";

export interface Stands {
  root: Element;
  standing: Standing;
}

export class Standings {
  private readonly told = new WeakMap<Element, { standing: Standing; turn: number }>();
  private turns = 0;

  /** changed: called whenever a panel tells anything, and when one is gone. */
  constructor(changed: () => void) {
    hearStandings(({ root, standing }) => {
      if (standing) this.told.set(root, { standing, turn: ++this.turns });
      else this.told.delete(root);
      changed();
    });
  }

  /** Of these panels the one that told last: it does something, or somebody uses it. */
  newest(roots: readonly Element[]): Stands | null {
    const known = roots.flatMap((root) => {
      const told = this.told.get(root);
      return told ? [{ root, ...told }] : [];
    });
    return known.sort((a, b) => b.turn - a.turn)[0] ?? null;
  }
}

const WHERE: Record<string, string> = { local: "here", ndif: "NDIF" };

/** The model by the last part of its id, where it runs, and what it does; in a queue only the place. */
export function inShort({ model, backend, word, place }: Standing): [string, string, string] {
  const name = model.split("/").at(-1) ?? model;
  return [name, WHERE[backend] ?? backend, place === null ? word : `queue ${place}`];
}

/** In full, with what a click does. */
export function inFull({ model, backend, device, word }: Standing): string {
  const click = backend === "ndif" ? "list its jobs" : "show its panel";
  return `${model} on ${device}: ${word}. Click to ${click}.`;
}
