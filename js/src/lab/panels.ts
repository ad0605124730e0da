/** What the panels of every notebook ask of JupyterLab, and are told by it. */
import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import { INotebookTracker, type NotebookPanel } from "@jupyterlab/notebook";
import { KERNEL_GONE } from "../widget/host";
import { answerInserts } from "./inserts";
import { labsOf, watchUse } from "./labs";
import { keepPages } from "./pages";
import { answerReruns } from "./reruns";

/** Tells a notebook's panels that their kernel was shut down or died. A restart the widgets notice by themselves. */
function watchKernel(panel: NotebookPanel): void {
  const tell = () => {
    for (const { root } of labsOf(panel)) root.dispatchEvent(new CustomEvent(KERNEL_GONE, { bubbles: true }));
  };
  panel.sessionContext.kernelChanged.connect((_, { oldValue }) => {
    if (oldValue) tell();
  });
  panel.sessionContext.statusChanged.connect((_, status) => {
    if (status === "dead" || status === "autorestarting" || status === "terminating") tell();
  });
}

export const panels: JupyterFrontEndPlugin<void> = {
  id: "@steerlab/lab:panels",
  description: "Answers the panels of notebooks: new cells, cells run again, a kernel that is gone.",
  autoStart: true,
  requires: [INotebookTracker],
  activate: (_app: JupyterFrontEnd, notebooks: INotebookTracker) => {
    const follow = (panel: NotebookPanel) => {
      watchKernel(panel);
      keepPages(panel);
    };
    notebooks.forEach(follow);
    notebooks.widgetAdded.connect((_, panel) => follow(panel));
    answerInserts(notebooks);
    answerReruns(notebooks);
    watchUse(notebooks);
  },
};
