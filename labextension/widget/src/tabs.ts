/** Tabs as the ARIA practices describe them: one is in the tab order, arrows move between them. */

import { h, newId, setAttribute, setText } from "./dom";

export interface Tab {
  name: string;
  label: string;
  panel: HTMLElement;
}

export class Tabs {
  readonly element = h("div", { class: "gd-tabs", role: "tablist", "aria-label": "What is shown of the run" });
  readonly panels = h("div", { class: "gd-panels" });
  readonly #buttons = new Map<string, HTMLButtonElement>();
  readonly #tabs: Tab[];
  readonly #changed: () => void;
  current = "";

  constructor(tabs: Tab[], changed: () => void) {
    [this.#tabs, this.#changed] = [tabs, changed];
    for (const tab of tabs) {
      const panel = h("div", { class: "gd-panel", role: "tabpanel", id: newId("panel") }, tab.panel);
      const button = h("button", {
        type: "button",
        class: "gd-tab",
        role: "tab",
        id: newId("tab"),
        "aria-controls": panel.id,
        onclick: () => this.open(tab.name),
        onkeydown: (event) => this.#key(event as KeyboardEvent),
      });
      button.append(h("span", {}, tab.label), h("span", { class: "gd-tab-more" }));
      setAttribute(panel, "aria-labelledby", button.id);
      this.#buttons.set(tab.name, button);
      this.element.append(button);
      this.panels.append(panel);
    }
    this.open(tabs[0]!.name);
  }

  open(name: string): void {
    if (name === this.current) return;
    this.current = name;
    this.#tabs.forEach((tab, place) => {
      const isOpen = tab.name === name;
      const button = this.#buttons.get(tab.name)!;
      setAttribute(button, "aria-selected", String(isOpen));
      setAttribute(button, "tabindex", isOpen ? "0" : "-1");
      (this.panels.children[place] as HTMLElement).hidden = !isOpen;
    });
    this.#changed();
  }

  focus(): void {
    this.#buttons.get(this.current)?.focus();
  }

  /** Say a little more beside a label. */
  tell(name: string, more: string): void {
    const element = this.#buttons.get(name)?.lastElementChild;
    if (element) setText(element, more);
  }

  #key(event: KeyboardEvent): void {
    const names = this.#tabs.map(({ name }) => name);
    const at = names.indexOf(this.current);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: names.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    this.open(names[(to + names.length) % names.length]!);
    this.focus();
  }
}
