/** Makes a panel live again whose kernel is gone: runs the cells up to it, and sets the new panel there as the old one was set. */
import type { Cell } from "@jupyterlab/cells";
import { type INotebookTracker, NotebookActions, type NotebookPanel } from "@jupyterlab/notebook";
import { RUN_CELLS, type RunCells, type Setting, TAKE_OVER } from "../widget/host";

const PATIENCE_MS = 60_000; // for the widget's module to be loaded, after its cell has run

export function answerReruns(notebooks: INotebookTracker): void {
  document.addEventListener(RUN_CELLS, (event) => {
    const { detail, target } = event as CustomEvent<RunCells>;
    const panel = notebooks.find((one) => one.node.contains(target as Node));
    const cells = panel?.content.widgets ?? [];
    const own = cells.findIndex((cell) => cell.node.contains(target as Node));
    const root = (target as Element).closest(".sl-app");
    if (!panel || own < 0 || !root) return;
    event.preventDefault();
    if (detail.setting) detail.done = rerun(panel, cells.slice(0, own + 1), root, detail.setting);
  });
}

async function rerun(
  panel: NotebookPanel,
  cells: readonly Cell[],
  old: Element,
  setting: Setting,
): Promise<boolean> {
  const { content, sessionContext } = panel;
  const kernel = sessionContext.session?.kernel;
  if (!kernel || kernel.status === "dead") await sessionContext.restartKernel(); // starts one where there is none
  const cell = cells.at(-1);
  const place = roots(cell).indexOf(old);
  const run = (some: readonly Cell[]) => NotebookActions.runCells(content, some, sessionContext);
  // the panel's own cell last: its output is cleared as soon as it waits, and the panel shall stay if another one fails
  const done = (cells.length === 1 || (await run(cells.slice(0, -1)))) && (await run(cells.slice(-1)));
  if (done && cell) {
    const root = await until(cell.node, () => roots(cell).filter((one) => one !== old)[place]);
    root?.dispatchEvent(new CustomEvent<Setting>(TAKE_OVER, { detail: setting }));
  }
  return done;
}

function roots(cell: Cell | undefined): Element[] {
  return [...(cell?.node.querySelectorAll(".sl-app") ?? [])];
}

/** What is looked for, once it is there; undefined if it does not come. */
function until<T>(node: Node, look: () => T | undefined): Promise<T | undefined> {
  return new Promise((resolve) => {
    const end = (found: T | undefined) => {
      clearTimeout(timer);
      watch.disconnect();
      resolve(found);
    };
    const watch = new MutationObserver(() => {
      const found = look();
      if (found) end(found);
    });
    const timer = setTimeout(() => end(undefined), PATIENCE_MS);
    watch.observe(node, { childList: true, subtree: true });
    const there = look();
    if (there) end(there);
  });
}
