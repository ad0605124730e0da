/** The JupyterLab extension: what only JupyterLab has. The panel itself is a widget and needs none of this. */
import { newLab } from "./newLab";
import { panels } from "./panels";
import { settings } from "./settings";
import { status } from "./status";

export default [panels, newLab, settings, status];
