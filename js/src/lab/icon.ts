import { LabIcon } from "@jupyterlab/ui-components";

/** A dial: a ring with a hand. JupyterLab colours `jp-icon3` with the theme. */
export const icon = new LabIcon({
  name: "steerlab:icon",
  svgstr: `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" stroke-linecap="round">
  <path class="jp-icon3" stroke="#616161" stroke-width="2" d="M5.6 18.4a9 9 0 1 1 12.8 0"/>
  <path stroke="#7b68ee" stroke-width="2.5" d="m12 12 4-4.5"/>
  <circle cx="12" cy="12" r="2.2" fill="#7b68ee"/>
</svg>`,
});
