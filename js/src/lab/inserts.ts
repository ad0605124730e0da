/** Puts what a panel offers into a new cell below it: the panel asks by an event, and a host without an answer has no button. */
import { type INotebookTracker, NotebookActions, type NotebookPanel } from "@jupyterlab/notebook";
import { INSERT_CELL, type InsertCell } from "../widget/host";
import { notebookOf } from "./labs";

export function answerInserts(notebooks: INotebookTracker): void {
  document.addEventListener(INSERT_CELL, (event) => {
    const { detail, target } = event as CustomEvent<InsertCell>;
    const panel = notebookOf(notebooks, target as Node) ?? notebooks.currentWidget;
    if (!panel) return;
    event.preventDefault();
    if (detail.source === null) return;
    const notebook = panel.content;
    const own = notebook.widgets.findIndex((cell) => cell.node.contains(target as Node));
    if (own >= 0) notebook.activeCellIndex = own;
    insertBelow(panel, detail.source);
  });
}

/** Below the active cell; the new one is then the active one. */
export function insertBelow({ content }: NotebookPanel, source: string): void {
  NotebookActions.insertBelow(content);
  content.activeCell?.model.sharedModel.setSource(source);
}
