/** The JupyterLab extension: what only JupyterLab has. The panel itself is a widget and needs none of this. */
import { newLab } from "./newLab";
import { panels } from "./panels";
import { settings } from "./settings";

export default [panels, newLab, settings];
