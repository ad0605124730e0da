/** The JupyterLab extension: what only JupyterLab has. The panel itself is a widget and needs none of this. */
import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import { ICommandPalette } from "@jupyterlab/apputils";
import { ILauncher } from "@jupyterlab/launcher";
import { INotebookTracker, NotebookActions, type NotebookPanel } from "@jupyterlab/notebook";
import { KERNEL_GONE } from "../widget/host";
import { icon } from "./icon";
import { answerInserts } from "./inserts";
import { keepPages } from "./pages";
import { answerReruns } from "./reruns";

const NEW_LAB = "steerlab:new-lab";
const CELL = "import steerlab as sl\n\nlab = sl.Lab()\nlab";

/** A new notebook whose one cell shows the panel, already run. */
async function newLab(app: JupyterFrontEnd, cwd: string | undefined): Promise<NotebookPanel> {
  const panel: NotebookPanel = await app.commands.execute("notebook:create-new", {
    cwd,
    kernelName: "python3",
  });
  await panel.context.ready;
  await panel.sessionContext.ready;
  panel.content.activeCell?.model.sharedModel.setSource(CELL);
  await NotebookActions.run(panel.content, panel.sessionContext); // another notebook may be the current one by now
  return panel;
}

/** Tells a notebook's panels that their kernel was shut down or died. A restart the widgets notice by themselves. */
function watchKernel(panel: NotebookPanel): void {
  const tell = () => {
    for (const cell of panel.content.widgets) {
      for (const root of cell.node.querySelectorAll(".sl-app")) {
        root.dispatchEvent(new CustomEvent(KERNEL_GONE, { bubbles: true }));
      }
    }
  };
  panel.sessionContext.kernelChanged.connect((_, { oldValue }) => {
    if (oldValue) tell();
  });
  panel.sessionContext.statusChanged.connect((_, status) => {
    if (status === "dead" || status === "autorestarting" || status === "terminating") tell();
  });
}

const plugin: JupyterFrontEndPlugin<void> = {
  id: "@steerlab/lab:plugin",
  description: "A launcher card and a command that open a new steering lab.",
  autoStart: true,
  requires: [INotebookTracker],
  optional: [ICommandPalette, ILauncher], // Notebook 7 has no launcher
  activate: (
    app: JupyterFrontEnd,
    notebooks: INotebookTracker,
    palette: ICommandPalette | null,
    launcher: ILauncher | null,
  ) => {
    const follow = (panel: NotebookPanel) => {
      watchKernel(panel);
      keepPages(panel);
    };
    notebooks.forEach(follow);
    answerInserts(notebooks);
    answerReruns(notebooks);
    notebooks.widgetAdded.connect((_, panel) => follow(panel));
    app.commands.addCommand(NEW_LAB, {
      label: (args) => (args.isPalette ? "New Steering Lab" : "Steering Lab"),
      caption: "A new notebook with a panel that steers a language model",
      icon,
      execute: (args) => newLab(app, args.cwd as string | undefined),
    });
    palette?.addItem({ command: NEW_LAB, category: "Steering", args: { isPalette: true } });
    // in JupyterLab's own category "Notebook" a card shows a letter in place of its icon
    launcher?.add({ command: NEW_LAB, category: "Steering", rank: 1 });
  },
};

export default plugin;
