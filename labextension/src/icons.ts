/** Our sign: something that goes up, out of a frame. */

import { LabIcon } from "@jupyterlab/ui-components";

const SVG = `<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24">
  <path class="jp-icon3 jp-icon-selectable" fill="#616161" d="M12 2l5 6h-3.4v7h-3.2V8H7zM4 12h4v2H6v6h12v-6h-2v-2h4v10H4z"/>
</svg>`;

export const deployIcon = new LabIcon({ name: "gpudeploy:deploy", svgstr: SVG });
