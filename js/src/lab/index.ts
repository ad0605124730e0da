/** The JupyterLab extension: what only JupyterLab has. The panel itself is a widget and needs none of this. */
import { beside } from "./beside";
import { insertRecipe } from "./insertRecipe";
import { menu } from "./menu";
import { newLab } from "./newLab";
import { panels } from "./panels";
import { recipes } from "./recipes";
import { settings } from "./settings";
import { status } from "./status";
import { tutorials } from "./tutorials";

export default [panels, newLab, beside, insertRecipe, tutorials, menu, recipes, settings, status];
