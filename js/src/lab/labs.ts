/** Which panels a notebook has, in its cells and beside it, and which of them was used last. */
import type { JupyterFrontEnd } from "@jupyterlab/application";
import type { Cell } from "@jupyterlab/cells";
import type { INotebookTracker, NotebookPanel } from "@jupyterlab/notebook";
import { type About, aboutOf } from "../widget/host";
import { panelsOf } from "./heirs";

/** The place beside a notebook where its lab stands, too. */
export interface Side {
  readonly notebook: NotebookPanel;
  readonly node: HTMLElement;
  /** The cell that shows the same panel, or did before it failed. */
  readonly cell: Cell | undefined;
}

export interface Shown {
  root: Element;
  about: About;
  /** None where it stands beside the notebook alone. */
  cell: Cell | undefined;
}

const sides = new Map<NotebookPanel, Side>();
const used = new WeakMap<NotebookPanel, string>(); // the widget

/** Until the side is disposed, its panel is the notebook's, too. */
export function addSide(side: Side): void {
  sides.set(side.notebook, side);
}

export function dropSide(side: Side): void {
  sides.delete(side.notebook);
}

export const sideOf = (notebook: NotebookPanel): Side | undefined => sides.get(notebook);

/** The notebook in which, or beside which, something stands. */
export function notebookOf(notebooks: INotebookTracker, target: Node): NotebookPanel | undefined {
  const beside = [...sides.values()].find(({ node }) => node.contains(target));
  return beside?.notebook ?? notebooks.find((one) => one.node.contains(target));
}

/** The cell that a panel stands in; of one beside its notebook, that which shows the same one. */
export function cellOf(notebook: NotebookPanel, target: Element): Cell | undefined {
  const own = notebook.content.widgets.find(({ node }) => node.contains(target));
  if (own) return own;
  const root = target.closest(".sl-app");
  return cellShowing(notebook, root && aboutOf(root)?.widget) ?? sideOf(notebook)?.cell;
}

export function cellShowing(notebook: NotebookPanel, widget: string | null | undefined): Cell | undefined {
  return inCells(notebook).find(({ about }) => about.widget === widget)?.cell;
}

/** Every panel of the notebook: those in its cells in their order, then one that stands beside it alone. */
export function labsOf(notebook: NotebookPanel): Shown[] {
  const shown = inCells(notebook);
  const widgets = new Set(shown.map(({ about }) => about.widget));
  const alone = read(sideOf(notebook)?.node, undefined).filter(({ about }) => !widgets.has(about.widget));
  return [...shown, ...alone];
}

const inCells = (notebook: NotebookPanel) =>
  notebook.content.widgets.flatMap((cell) => read(cell.node, cell));

function read(node: Element | undefined, cell: Cell | undefined): Shown[] {
  return (node ? panelsOf(node) : []).flatMap((root) => {
    const about = aboutOf(root);
    return about ? [{ root, about, cell }] : [];
  });
}

/** Of the panels that are live, or of those that are not, the one that was used last; of none that was, the last. */
export function lastUsed(notebook: NotebookPanel, live = true): Shown | undefined {
  const labs = labsOf(notebook).filter(({ about }) => about.live === live);
  return labs.find(({ about }) => about.widget === used.get(notebook)) ?? labs.at(-1);
}

/** Follow which panels people point at, or go into with the keys. */
export function watchUse(notebooks: INotebookTracker): void {
  const note = ({ target }: Event) => {
    const root = target instanceof Element && target.closest(".sl-app");
    const notebook = root && notebookOf(notebooks, root);
    const about = root && aboutOf(root);
    if (notebook && about) used.set(notebook, about.widget);
  };
  for (const event of ["pointerdown", "focusin"]) document.addEventListener(event, note, true);
}

/** The notebook that a command is about: the one that is in front, also while its lab beside it is used. */
export function currentNotebook(app: JupyterFrontEnd, notebooks: INotebookTracker): NotebookPanel | null {
  const notebook = notebooks.currentWidget;
  return notebook && notebook === app.shell.currentWidget ? notebook : null;
}
