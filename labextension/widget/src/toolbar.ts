/** How curves are drawn: scale and smoothing of metrics, the range of all. */

import { h, newId, setAttribute, setText, show } from "./dom";
import type { Look } from "./look";

export interface Toolbar {
  element: HTMLElement;
  draw: () => void;
}

export function metricsToolbar(look: Look): Toolbar {
  const id = newId("smoothing");
  const told = h("output", { class: "gd-quiet", for: id });
  const slider = h("input", { type: "range", id, class: "gd-slider", min: 0, max: 0.98, step: 0.02, value: 0 });
  slider.addEventListener("input", () => look.smooth(Number(slider.value)));
  slider.addEventListener("keydown", (event) => event.stopPropagation());
  const scale = h(
    "button",
    { type: "button", class: "gd-button", "aria-pressed": "false", onclick: () => look.scale(!look.isLog) },
    "Log scale",
  );
  const reset = wholeRange(look);
  const element = h(
    "div",
    { class: "gd-toolbar", role: "toolbar", "aria-label": "How curves are drawn" },
    scale,
    h("label", { for: id }, "Smoothing"),
    slider,
    told,
    h("span", { class: "gd-space" }),
    reset.element,
  );
  const draw = (): void => {
    setAttribute(scale, "aria-pressed", String(look.isLog));
    setText(told, look.smoothing ? look.smoothing.toFixed(2) : "off");
    reset.draw();
  };
  return { element, draw };
}

/** A toolbar that is there only while a part of the range is shown. */
export function gpuToolbar(look: Look): Toolbar {
  const reset = wholeRange(look);
  const element = h("div", { class: "gd-toolbar", hidden: true }, reset.element);
  const draw = (): void => {
    reset.draw();
    show(element, !reset.element.hidden);
  };
  return { element, draw };
}

function wholeRange(look: Look): Toolbar {
  const whole = (): void => {
    look.zoom("time", null);
    look.zoom("step", null);
  };
  const element = h("button", { type: "button", class: "gd-button", hidden: true, onclick: whole }, "Whole range");
  return { element, draw: () => show(element, look.timeZoom !== null || look.stepZoom !== null) };
}
