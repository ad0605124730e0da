/** The menu "Steering": what the palette has, where somebody finds it who does not know that it is there. */
import { ILabShell, type JupyterFrontEnd, type JupyterFrontEndPlugin } from "@jupyterlab/application";
import { IMainMenu } from "@jupyterlab/mainmenu";
import { MenuSvg } from "@jupyterlab/ui-components";
import { BESIDE } from "./beside";
import { INSERT_RECIPE } from "./insertRecipe";
import { NEW_LAB } from "./newLab";
import { OPEN_TUTORIAL, tutorialList } from "./tutorials";

const RANK = 100; // between Kernel and Tabs

export const menu: JupyterFrontEndPlugin<void> = {
  id: "@steerlab/lab:menu",
  description: "The menu Steering.",
  autoStart: true,
  requires: [IMainMenu],
  optional: [ILabShell],
  activate: ({ commands }: JupyterFrontEnd, main: IMainMenu, jupyterlab: ILabShell | null) => {
    const steering = new MenuSvg({ commands });
    steering.id = "steerlab-menu";
    steering.title.label = "Steering";
    // Notebook opens it as another page, where nobody would run its cell
    if (jupyterlab) steering.addItem({ command: NEW_LAB, args: { isPalette: true } });
    if (jupyterlab) steering.addItem({ type: "separator" });
    steering.addItem({ command: BESIDE });
    steering.addItem({ command: INSERT_RECIPE });
    steering.addItem({ type: "separator" });
    const submenu = new MenuSvg({ commands });
    submenu.title.label = "Tutorials";
    for (const { number } of tutorialList) submenu.addItem({ command: OPEN_TUTORIAL, args: { number } });
    steering.addItem({ type: "submenu", submenu });
    main.addMenu(steering, true, { rank: RANK });
  },
};
