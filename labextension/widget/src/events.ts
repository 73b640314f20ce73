/** What happened, the newest first. */

import { h, setAttribute, setText, show } from "./dom";
import { clock } from "./format";
import { colour } from "./palette";
import type { Happening } from "./protocol";
import type { Store } from "./store";

const FIRST = 200;
const LEVELS = new Set(["info", "warning", "error", "state"]);

export class EventsView {
  readonly element = h("div", { class: "gd-events" });
  readonly #list = h("ol", { class: "gd-happenings" });
  readonly #empty = h("p", { class: "gd-empty" }, "Nothing happened yet.");
  readonly #more: HTMLButtonElement;
  readonly #store: Store;
  readonly #pick: (time: number) => void;
  #most = FIRST;

  constructor(store: Store, changed: () => void, pick: (time: number) => void) {
    [this.#store, this.#pick] = [store, pick];
    const more = (): void => {
      this.#most *= 4;
      changed();
    };
    this.#more = h("button", { type: "button", class: "gd-button", hidden: true, onclick: more }, "Older");
    setAttribute(this.element, "tabindex", "0");
    this.element.append(this.#list, this.#more, this.#empty);
  }

  draw(): void {
    const events = this.#store.events;
    const isMany = (this.#store.card?.tasks.length ?? 0) > 1;
    const shown = events.slice(-this.#most).reverse();
    this.#list.replaceChildren(...shown.map((event) => this.#row(event, isMany)));
    show(this.#more, events.length > this.#most);
    show(this.#empty, events.length === 0);
  }

  #row([time, task, level, text]: Happening, isMany: boolean): HTMLElement {
    const when = h("button", {
      type: "button",
      class: "gd-when gd-quiet-button",
      title: "Show the log of this moment",
      onclick: () => this.#pick(time),
    });
    setText(when, clock(time));
    const badge = task !== null && isMany ? h("span", { class: "gd-task" }, String(task)) : null;
    badge?.style.setProperty("--gd-task", colour(task));
    const known = LEVELS.has(level) ? level : "info";
    return h(
      "li",
      { class: "gd-happening", "data-level": known },
      when,
      badge ?? (isMany && h("span", { class: "gd-task gd-none" })),
      h("span", { class: "gd-wrap" }, text),
    );
  }
}
