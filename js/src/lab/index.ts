/** The JupyterLab extension: what only JupyterLab has. The panel itself is a widget and needs none of this. */
import { newLab } from "./newLab";
import { panels } from "./panels";
import { recipes } from "./recipes";

export default [panels, newLab, recipes];
