/** A new notebook with a panel that already works: from the launcher, and from the command palette. */
import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import { ICommandPalette } from "@jupyterlab/apputils";
import { ILauncher } from "@jupyterlab/launcher";
import { NotebookActions, type NotebookPanel } from "@jupyterlab/notebook";
import { ISettingRegistry } from "@jupyterlab/settingregistry";
import { cell } from "./cell";
import { icon } from "./icon";
import { settingsIn } from "./settings";

export const NEW_LAB = "steerlab:new-lab";

/** A new notebook whose one cell, which shows the panel, has been run. */
async function open(app: JupyterFrontEnd, source: string, cwd: string | undefined): Promise<NotebookPanel> {
  const panel: NotebookPanel = await app.commands.execute("notebook:create-new", {
    cwd,
    kernelName: "python3",
  });
  await panel.context.ready;
  await panel.sessionContext.ready;
  panel.content.activeCell?.model.sharedModel.setSource(source);
  await NotebookActions.run(panel.content, panel.sessionContext); // another notebook may be the current one by now
  return panel;
}

export const newLab: JupyterFrontEndPlugin<void> = {
  id: "@steerlab/lab:new-lab",
  description: "A launcher card and a command that open a new steering lab.",
  autoStart: true,
  optional: [ICommandPalette, ILauncher, ISettingRegistry], // Notebook 7 has no launcher
  activate: (
    app: JupyterFrontEnd,
    palette: ICommandPalette | null,
    launcher: ILauncher | null,
    registry: ISettingRegistry | null,
  ) => {
    const set = settingsIn(registry);
    app.commands.addCommand(NEW_LAB, {
      label: (args) => (args.isPalette ? "New Steering Lab" : "Steering Lab"),
      caption: "A new notebook with a panel that steers a language model",
      icon,
      execute: async (args) => open(app, cell((await set)()), args.cwd as string | undefined),
    });
    palette?.addItem({ command: NEW_LAB, category: "Steering", args: { isPalette: true } });
    // in JupyterLab's own category "Notebook" a card shows a letter in place of its icon
    launcher?.add({ command: NEW_LAB, category: "Steering", rank: 1 });
  },
};
