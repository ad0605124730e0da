/** What the panels of a cell are set to, for those that will stand in their places once the cell has run again. */
import { type Setting, setAs, settingOf } from "../widget/host";

const PATIENCE_MS = 60_000; // for the widget's module to be loaded, after its cell has run

export class Heirs {
  private readonly settings: readonly (Setting | undefined)[];
  private readonly old: WeakSet<Element>;
  private readonly served = new WeakSet<Element>();
  private readonly watch = new MutationObserver(() => this.serve());
  private running = true;

  constructor(private readonly cell: Element) {
    const panels = panelsOf(cell);
    this.settings = panels.map(settingOf);
    this.old = new WeakSet(panels);
    this.watch.observe(cell, { childList: true, subtree: true });
  }

  /** Cells run: what they set of a lab comes before what its panel was set to. */
  wait(): void {
    this.running = true;
  }

  /** They have run, all of them or not. A cell that failed took its panels along; they come when it is corrected and run. */
  serveFrom(allRan: boolean): void {
    this.running = false;
    this.serve();
    if (allRan) setTimeout(() => this.end(), PATIENCE_MS);
  }

  end(): void {
    this.watch.disconnect();
  }

  private serve(): void {
    if (this.running) return;
    const heirs = panelsOf(this.cell).filter((panel) => !this.old.has(panel));
    for (const [place, panel] of heirs.entries()) {
      const setting = this.settings[place];
      if (!setting || this.served.has(panel)) continue;
      this.served.add(panel);
      setAs(panel, setting);
    }
    if (heirs.length >= this.settings.length) this.end();
  }
}

export function panelsOf(cell: Element): Element[] {
  return [...cell.querySelectorAll(".sl-app")];
}
