/** The panels that are open in the page, and the one among them that a person means by "the current lab". */
import type { ILabShell, JupyterFrontEnd } from "@jupyterlab/application";
import type { CodeCellModel } from "@jupyterlab/cells";
import type { INotebookTracker, NotebookPanel } from "@jupyterlab/notebook";
import type { Widget } from "@lumino/widgets";
import type { Trouble } from "../../protocol";
import { giveFiles, goToDirections } from "../../widget/host";
import { panelsOf } from "../heirs";
import { NEW_LAB } from "../newLab";

const AREAS = ["main", "right", "left", "down"];
const PATIENCE_MS = 20_000; // for the widget's module to be loaded, once its cell has run
const LOOK_MS = 200;

export interface OpenLab {
  /** Of the notebook, or of whatever else shows the panel. */
  name: string;
  home: Widget;
  /** Null where a notebook has not drawn it yet: after the page was loaded, one does when it is first shown. */
  panel: Element | null;
}

export class Labs {
  private readonly used = new WeakMap<object, number>();
  private count = 0;

  constructor(
    private readonly app: JupyterFrontEnd,
    private readonly shell: ILabShell | null,
    private readonly notebooks: INotebookTracker | null,
  ) {
    const note = (one: object | null | undefined) => one && this.used.set(one, ++this.count);
    shell?.currentChanged.connect((_, { newValue }) => note(newValue));
    for (const event of ["focusin", "pointerdown"])
      document.addEventListener(event, ({ target }) => note((target as Element).closest?.(".sl-app")));
  }

  /** Whether a new one can be opened in this page: Notebook 7 opens a page of its own. */
  get opensNew(): boolean {
    return this.shell !== null && this.app.commands.hasCommand(NEW_LAB);
  }

  /** That of the current notebook, else the one used last; null for none. */
  get current(): OpenLab | null {
    const current = this.notebooks?.currentWidget;
    const rank = (one: object) => (one === current ? Number.POSITIVE_INFINITY : (this.used.get(one) ?? 0));
    const homes = (this.shell ? AREAS : ["main"]).flatMap((area) => [...this.app.shell.widgets(area)]);
    for (const home of newestFirst(homes, rank)) {
      const [panel = null] = newestFirst(this.panels(home).reverse(), rank); // of those that nobody touched the last
      if (panel || this.sleeps(home)) return { name: nameOf(home), home, panel };
    }
    return null;
  }

  /** Give a lab the file, and show what it is set to then; why that could not be, null for good. */
  async use({ home, panel }: OpenLab, file: File): Promise<Trouble | null> {
    if (!panel) this.app.shell.activateById(home.id);
    const found = panel ?? (await this.drawn(home));
    if (!found)
      return {
        what: `no panel came up in ${nameOf(home)}`,
        hint: "Its cell may say why: correct it, run it, and press again.",
      };
    const trouble = await giveFiles(found, [file]);
    if (!trouble) await this.show(home, found);
    return trouble;
  }

  /** A new notebook in the folder, with a lab of its own. */
  async open(cwd: string): Promise<OpenLab> {
    const home: NotebookPanel = await this.app.commands.execute(NEW_LAB, { cwd });
    return { name: nameOf(home), home, panel: null };
  }

  /** The panel of a notebook, once it is there; null for none. */
  private async drawn(home: Widget): Promise<Element | null> {
    const end = Date.now() + PATIENCE_MS;
    while (!home.isDisposed && Date.now() < end) {
      const panel = this.panels(home).at(-1);
      if (panel) return panel;
      if (!this.sleeps(home)) break; // its cell has failed, and says why
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
    return null;
  }

  private panels(home: Widget): Element[] {
    const cells = this.notebook(home)?.content.widgets.map((cell) => cell.node);
    return (cells ?? [home.node]).flatMap(panelsOf); // of a long notebook not every cell is in the page
  }

  /** Whether a notebook with a kernel has a panel to draw: each stands beside its static page (`steerlab/ui/snapshot.py`). */
  private sleeps(home: Widget): boolean {
    const notebook = this.notebook(home);
    if (!notebook?.sessionContext.session?.kernel) return false;
    return notebook.content.widgets.some(({ model }) => {
      if (model.type !== "code") return false;
      const { outputs } = model as CodeCellModel;
      const pages = Array.from({ length: outputs.length }, (_, i) => outputs.get(i).data["text/html"]);
      return pages.some((page) => String(page).includes("steerlab-static"));
    });
  }

  private notebook(home: Widget): NotebookPanel | undefined {
    return this.notebooks?.find((one) => one === home);
  }

  private async show(home: Widget, panel: Element): Promise<void> {
    this.app.shell.activateById(home.id);
    const content = this.notebook(home)?.content;
    const cell = content?.widgets.find((one) => one.node.contains(panel));
    if (content && cell) {
      content.activeCellIndex = content.widgets.indexOf(cell);
      if (!panel.isConnected) await content.scrollToCell(cell);
    }
    await new Promise(requestAnimationFrame); // the notebook takes the focus when it is shown
    await new Promise(requestAnimationFrame);
    goToDirections(panel);
  }
}

function newestFirst<T extends object>(some: readonly T[], rank: (one: T) => number): T[] {
  return [...some].sort((a, b) => Math.sign(rank(b) - rank(a)) || 0);
}

/** A panel at the side has a tab without a label. */
const nameOf = ({ title }: Widget) => title.label || title.caption;
