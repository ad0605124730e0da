/** Puts what a panel offers into a new cell below it: the panel asks by an event, and a host without an answer has no button. */
import { type INotebookTracker, NotebookActions } from "@jupyterlab/notebook";
import { INSERT_CELL, type InsertCell } from "../widget/host";

export function answerInserts(notebooks: INotebookTracker): void {
  document.addEventListener(INSERT_CELL, (event) => {
    const { detail, target } = event as CustomEvent<InsertCell>;
    const panel = notebooks.find((one) => one.node.contains(target as Node)) ?? notebooks.currentWidget;
    if (!panel) return;
    event.preventDefault();
    if (detail.source === null) return;
    const notebook = panel.content;
    const own = notebook.widgets.findIndex((cell) => cell.node.contains(target as Node));
    if (own >= 0) notebook.activeCellIndex = own;
    NotebookActions.insertBelow(notebook);
    notebook.activeCell?.model.sharedModel.setSource(detail.source);
  });
}
