/** Makes panels live again whose kernel is gone: runs the cells up to one of them, and sets the new ones as the old ones were. */
import type { Cell } from "@jupyterlab/cells";
import { type INotebookTracker, NotebookActions, type NotebookPanel } from "@jupyterlab/notebook";
import { RUN_CELLS, type RunCells, setAs, settingOf } from "../widget/host";

export function answerReruns(notebooks: INotebookTracker): void {
  document.addEventListener(RUN_CELLS, (event) => {
    const { detail, target } = event as CustomEvent<RunCells>;
    const panel = notebooks.find((one) => one.node.contains(target as Node));
    const cells = panel?.content.widgets ?? [];
    const own = cells.findIndex((cell) => cell.node.contains(target as Node));
    if (!panel || own < 0) return;
    event.preventDefault();
    if (detail.run) detail.done = rerun(panel, cells.slice(0, own + 1));
  });
}

async function rerun({ content, sessionContext }: NotebookPanel, cells: readonly Cell[]): Promise<boolean> {
  cells.forEach(handOver);
  const kernel = sessionContext.session?.kernel;
  if (!kernel || kernel.status === "dead") await sessionContext.restartKernel(); // starts one where there is none
  const run = (some: readonly Cell[]) => NotebookActions.runCells(content, some, sessionContext);
  // the panel's own cell last: its output is cleared as soon as it waits, and the panel shall stay if another one fails
  return (cells.length === 1 || (await run(cells.slice(0, -1)))) && (await run(cells.slice(-1)));
}

const waits = new WeakMap<Cell, MutationObserver>();

/**
 * What a cell's panels are set to goes to those that will stand in their places, whenever they come: a cell that fails takes
 * its panels along, and is corrected and run by hand.
 */
function handOver(cell: Cell): void {
  const old = roots(cell);
  if (!old.length) return; // and what was handed over before still waits
  const settings = old.map(settingOf);
  const served = new Set<Element>();
  waits.get(cell)?.disconnect();
  const watch = new MutationObserver(() => {
    const heirs = roots(cell).filter((root) => !old.includes(root));
    for (const [place, root] of heirs.entries()) {
      const setting = settings[place];
      if (!setting || served.has(root)) continue;
      served.add(root);
      setAs(root, setting);
    }
    if (served.size === settings.filter(Boolean).length) watch.disconnect();
  });
  watch.observe(cell.node, { childList: true, subtree: true });
  waits.set(cell, watch);
}

function roots(cell: Cell): Element[] {
  return [...cell.node.querySelectorAll(".sl-app")];
}
