/** The command that puts a notebook's recipe into a cell of it, as code. */
import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import { ICommandPalette, showErrorMessage } from "@jupyterlab/apputils";
import { INotebookTracker, NotebookActions, type NotebookPanel } from "@jupyterlab/notebook";
import { insertBelow } from "./inserts";
import { currentNotebook, labsOf, lastUsed } from "./labs";

export const INSERT_RECIPE = "steerlab:insert-recipe";

export const insertRecipe: JupyterFrontEndPlugin<void> = {
  id: "@steerlab/lab:insert-recipe",
  description: "Puts the recipe of a notebook's panel into a new cell.",
  autoStart: true,
  requires: [INotebookTracker],
  optional: [ICommandPalette],
  activate: (app: JupyterFrontEnd, notebooks: INotebookTracker, palette: ICommandPalette | null) => {
    const lacking = () => whyNot(currentNotebook(app, notebooks));
    app.commands.addCommand(INSERT_RECIPE, {
      label: "Insert the Recipe as Code",
      caption: () => lacking() || "A cell below the active one that makes what the panel is set to",
      isEnabled: () => !lacking(),
      execute: async () => {
        const notebook = currentNotebook(app, notebooks);
        const panel = notebook && lastUsed(notebook);
        if (!panel) return;
        try {
          insertBelow(notebook, await panel.about.code());
        } catch (error) {
          await showErrorMessage("The recipe is not inserted", error as Error);
        }
      },
    });
    palette?.addItem({ command: INSERT_RECIPE, category: "Steering" });
    const changed = () => app.commands.notifyCommandChanged(INSERT_RECIPE);
    notebooks.currentChanged.connect(changed);
    NotebookActions.executed.connect(changed);
  },
};

function whyNot(notebook: NotebookPanel | null): string {
  if (!notebook) return "Choose a notebook first: its recipe is inserted there";
  if (lastUsed(notebook)) return "";
  return labsOf(notebook).length
    ? "The kernel of this notebook’s panel is gone"
    : "This notebook shows no panel whose recipe it could be: show the lab first";
}
