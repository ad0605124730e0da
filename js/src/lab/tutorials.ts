/** Opens the tutorials, which travel with the extension, as notebooks of a person's own. */
import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import { ICommandPalette, showErrorMessage } from "@jupyterlab/apputils";
import { PageConfig, URLExt } from "@jupyterlab/coreutils";
import { IDefaultFileBrowser } from "@jupyterlab/filebrowser";
import { copyOf, type Tutorial } from "./copies";

/** From `examples/`, in order; the build puts it here. */
declare const TUTORIALS: readonly Tutorial[];

export const OPEN_TUTORIAL = "steerlab:open-tutorial";
export const tutorialList = TUTORIALS;

export const tutorials: JupyterFrontEndPlugin<void> = {
  id: "@steerlab/lab:tutorials",
  description: "Commands that open the tutorials.",
  autoStart: true,
  optional: [ICommandPalette, IDefaultFileBrowser],
  activate: (app: JupyterFrontEnd, palette: ICommandPalette | null, browser: IDefaultFileBrowser | null) => {
    const { commands, serviceManager } = app;
    const meant = (number: unknown) => TUTORIALS.find((one) => one.number === number);
    const files = URLExt.join(PageConfig.getOption("fullLabextensionsUrl"), "@steerlab/lab", "tutorials");
    const load = (file: string) => fetch(URLExt.join(files, file), { cache: "no-cache" });

    let last: Promise<unknown> = Promise.resolve(); // pressed twice, it is still made once
    const open = async (tutorial: Tutorial) => {
      try {
        const path = await copyOf(tutorial, browser?.model.path ?? "", serviceManager.contents, load);
        await commands.execute("docmanager:open", { path, factory: "Notebook" });
      } catch (error) {
        await showErrorMessage(`Tutorial ${tutorial.number} is not opened`, error as Error);
      }
    };
    commands.addCommand(OPEN_TUTORIAL, {
      label: ({ number, isPalette }) => {
        const tutorial = meant(number);
        if (!tutorial) return "Open a Tutorial";
        const { title } = tutorial;
        return isPalette ? `Open Tutorial ${number}: ${title}` : `${number} ${title}`;
      },
      caption: "A copy of your own, in the folder that the file browser shows; one that is there is kept",
      isEnabled: ({ number }) => meant(number) !== undefined,
      execute: ({ number }) => {
        const tutorial = meant(number);
        if (tutorial) last = last.then(() => open(tutorial));
        return last;
      },
    });
    for (const { number } of TUTORIALS)
      palette?.addItem({ command: OPEN_TUTORIAL, category: "Steering", args: { number, isPalette: true } });
  },
};
