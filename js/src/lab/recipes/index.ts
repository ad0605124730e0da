/** Opens `.steer.json` files in a viewer, which can put the recipe into a lab. */
import {
  ILabShell,
  ILayoutRestorer,
  type JupyterFrontEnd,
  type JupyterFrontEndPlugin,
} from "@jupyterlab/application";
import { WidgetTracker } from "@jupyterlab/apputils";
import type { DocumentWidget } from "@jupyterlab/docregistry";
import { INotebookTracker } from "@jupyterlab/notebook";
import colours from "../../widget/css/colours.css?raw";
import { icon } from "../icon";
import { FACTORY, RecipeFactory } from "./document";
import { Labs } from "./labs";
import look from "./recipe.css?raw";

const TYPE = "steerlab-recipe";

export const recipes: JupyterFrontEndPlugin<void> = {
  id: "@steerlab/lab:recipes",
  description: "A viewer of recipes, the files that end in .steer.json.",
  autoStart: true,
  optional: [ILabShell, INotebookTracker, ILayoutRestorer], // Notebook 7 has neither the first nor the last
  activate: (
    app: JupyterFrontEnd,
    shell: ILabShell | null,
    notebooks: INotebookTracker | null,
    restorer: ILayoutRestorer | null,
  ) => {
    const sheet = document.createElement("style");
    sheet.textContent = colours + look;
    document.head.append(sheet);
    const { docRegistry } = app;
    docRegistry.addFileType({
      name: TYPE,
      displayName: FACTORY,
      extensions: [".steer.json"], // longer than .json, whose viewers stay for "Open With"
      mimeTypes: ["application/json"],
      contentType: "file",
      fileFormat: "text",
      icon,
    });
    const factory = new RecipeFactory(app, new Labs(app, shell, notebooks), {
      name: FACTORY,
      fileTypes: [TYPE],
      defaultFor: [TYPE],
      readOnly: true,
    });
    docRegistry.addWidgetFactory(factory);
    const open = new WidgetTracker<DocumentWidget>({ namespace: TYPE });
    factory.widgetCreated.connect((_, widget) => {
      void open.add(widget);
      widget.context.pathChanged.connect(() => void open.save(widget));
    });
    if (restorer)
      void restorer.restore(open, {
        command: "docmanager:open",
        args: ({ context }) => ({ path: context.path, factory: FACTORY }),
        name: ({ context }) => context.path,
      });
  },
};
