/** The JupyterLab extension: what only JupyterLab has. The panel itself is a widget and needs none of this. */
import { newLab } from "./newLab";
import { panels } from "./panels";
import { recipes } from "./recipes";
import { settings } from "./settings";
import { status } from "./status";

export default [panels, newLab, recipes, settings, status];
