/** The command that shows a notebook's lab beside it, once for each notebook, and where JupyterLab keeps what it shows. */
import { ILayoutRestorer, type JupyterFrontEnd, type JupyterFrontEndPlugin } from "@jupyterlab/application";
import { ICommandPalette, WidgetTracker } from "@jupyterlab/apputils";
import { INotebookTracker, type NotebookPanel } from "@jupyterlab/notebook";
import styles from "./beside.css";
import { addSide, currentNotebook, dropSide, labsOf } from "./labs";
import { LabBeside } from "./side";

export const BESIDE = "steerlab:show-beside";
const RANK = 900; // below what JupyterLab has there

export const beside: JupyterFrontEndPlugin<void> = {
  id: "@steerlab/lab:beside",
  description: "Shows the lab of a notebook beside it, while a person scrolls and writes cells.",
  autoStart: true,
  requires: [INotebookTracker],
  optional: [ICommandPalette, ILayoutRestorer],
  activate: (
    app: JupyterFrontEnd,
    notebooks: INotebookTracker,
    palette: ICommandPalette | null,
    restorer: ILayoutRestorer | null,
  ) => {
    const { commands, shell } = app;
    const sides = new WidgetTracker<LabBeside>({ namespace: "steerlab-beside" });
    document.head.append(Object.assign(document.createElement("style"), { textContent: styles }));

    const of = (notebook: NotebookPanel | null) => sides.find((side) => side.notebook === notebook);
    const make = (notebook: NotebookPanel): LabBeside => {
      const side = new LabBeside(notebook);
      addSide(side);
      side.disposed.connect(dropSide);
      notebook.context.pathChanged.connect(() => sides.save(side)); // it is restored by that
      shell.add(side, "right", { rank: RANK, type: "Steering lab" });
      sides.add(side);
      return side;
    };
    const show = (notebook: NotebookPanel): Promise<void> => {
      const side = of(notebook) ?? make(notebook);
      shell.activateById(side.id);
      return side.look();
    };

    const lacking = () => whyNot(currentNotebook(app, notebooks));
    commands.addCommand(BESIDE, {
      label: "Show the Lab Beside the Notebook",
      caption: () => lacking() || "The panel of this notebook, in sight while you scroll and write cells",
      isEnabled: () => !lacking(),
      execute: async ({ restored }) => {
        const notebook = restored
          ? notebooks.find((one) => one.context.path === restored)
          : currentNotebook(app, notebooks);
        if (!notebook) return;
        if (restored) void make(notebook).look();
        else await show(notebook);
      },
    });
    palette?.addItem({ command: BESIDE, category: "Steering" });
    restorer?.restore(sides, {
      command: BESIDE,
      args: (side) => ({ restored: side.notebook.context.path }),
      name: (side) => side.notebook.context.path,
      when: notebooks.restored,
    });
    notebooks.currentChanged.connect((_, notebook) => {
      commands.notifyCommandChanged(BESIDE);
      const own = of(notebook);
      // what is in sight is the lab of the notebook that is in sight
      if (own && sides.find((side) => side.isVisible)) shell.activateById(own.id);
    });
  },
};

function whyNot(notebook: NotebookPanel | null): string {
  if (!notebook) return "Choose a notebook first: its lab is shown beside it";
  if (!notebook.sessionContext.session?.kernel && !labsOf(notebook).length)
    return "This notebook has no kernel, and so no lab";
  return "";
}
