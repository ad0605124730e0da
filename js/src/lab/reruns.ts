/** Makes panels live again whose kernel is gone: runs the cells up to one of them, and sets the new ones as the old ones were. */
import type { Cell } from "@jupyterlab/cells";
import { type INotebookTracker, NotebookActions, type NotebookPanel } from "@jupyterlab/notebook";
import { RUN_CELLS, type RunCells } from "../widget/host";
import { Heirs, panelsOf } from "./heirs";
import { cellOf, notebookOf } from "./labs";

const BESIDE = "To steer, run the cells again that make this lab: it then comes back here by itself.";

export function answerReruns(notebooks: INotebookTracker): void {
  document.addEventListener(RUN_CELLS, (event) => {
    const { detail, target } = event as CustomEvent<RunCells>;
    const panel = notebookOf(notebooks, target as Node);
    const cells = panel?.content.widgets ?? [];
    const cell = panel && cellOf(panel, target as Element);
    const own = cell ? cells.indexOf(cell) : -1;
    if (panel && own < 0) detail.instead = BESIDE;
    if (!panel || own < 0) return;
    event.preventDefault();
    if (detail.run) detail.done = rerun(panel, cells.slice(0, own + 1));
  });
}

const heirs = new WeakMap<Cell, Heirs>();

async function rerun({ content, sessionContext }: NotebookPanel, cells: readonly Cell[]): Promise<boolean> {
  for (const cell of cells) {
    if (panelsOf(cell.node).length) {
      heirs.get(cell)?.end();
      heirs.set(cell, new Heirs(cell.node));
    } else heirs.get(cell)?.wait(); // for those that a cell took along when it failed
  }
  const kernel = sessionContext.session?.kernel;
  if (!kernel || kernel.status === "dead") await sessionContext.restartKernel(); // starts one where there is none
  const run = (some: readonly Cell[]) => NotebookActions.runCells(content, some, sessionContext);
  // the panel's own cell last: its output is cleared as soon as it waits, and the panel shall stay if another one fails
  const done = (cells.length === 1 || (await run(cells.slice(0, -1)))) && (await run(cells.slice(-1)));
  for (const cell of cells) heirs.get(cell)?.serveFrom(done);
  return done;
}
