/** The JupyterLab extension: what only JupyterLab has. The panel itself is a widget and needs none of this. */
import { beside } from "./beside";
import { newLab } from "./newLab";
import { panels } from "./panels";
import { recipe } from "./recipe";

export default [panels, newLab, beside, recipe];
