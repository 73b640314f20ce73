/** What stands beside the pointer: the moment, and the values of the nearest curves. */

import type { Curve } from "./curve";
import { h } from "./dom";

const MOST = 5;

export function drawTip(element: HTMLElement, title: string, rows: { curve: Curve; value: string }[]): void {
  const made = rows
    .slice(0, MOST)
    .map(({ curve, value }, place) =>
      h(
        "div",
        { class: place ? "gd-tip-row" : "gd-tip-row gd-tip-first" },
        dot(curve.colour),
        h("span", { class: "gd-tip-label" }, curve.label),
        h("span", { class: "gd-tip-value" }, value),
      ),
    );
  const more = rows.length > MOST ? [h("div", { class: "gd-tip-more" }, `and ${rows.length - MOST} more`)] : [];
  element.replaceChildren(h("div", { class: "gd-tip-time" }, title), ...made, ...more);
}

export function dot(colour: string): HTMLElement {
  const made = h("span", { class: "gd-dot", "aria-hidden": "true" });
  made.style.background = colour;
  return made;
}
