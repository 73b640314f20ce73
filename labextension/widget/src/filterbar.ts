/** Which lines of the log are wanted: a text or pattern, a level, a task. */

import { h, setAttribute, setText, show } from "./dom";
import type { Card } from "./protocol";
import { OPEN, type Store } from "./store";

const LEVELS: [string, string][] = [
  ["", "All levels"],
  ["debug", "Debug and worse"],
  ["info", "Info and worse"],
  ["warning", "Warnings, errors"],
  ["error", "Errors"],
];

export class FilterBar {
  readonly element = h("div", { class: "gd-filters", role: "search", "aria-label": "Filter of the log" });
  readonly #text: HTMLInputElement;
  readonly #regex: HTMLButtonElement;
  readonly #level: HTMLSelectElement;
  readonly #task: HTMLSelectElement;
  readonly #problem = h("span", { class: "gd-problem-text", role: "alert" });
  readonly #store: Store;
  readonly #used: () => void;
  #tasks = "";

  constructor(store: Store, used: () => void) {
    [this.#store, this.#used] = [store, used];
    const changed = (): void => this.#changed();
    this.#text = h("input", {
      type: "search",
      class: "gd-input",
      placeholder: "Filter",
      "aria-label": "Only lines with this text",
      spellcheck: "false",
      autocomplete: "off",
      oninput: changed,
    });
    this.#regex = h(
      "button",
      {
        type: "button",
        class: "gd-button gd-mono",
        "aria-pressed": "false",
        "aria-label": "Regular expression",
        title: "Regular expression",
        onclick: () => this.#flip(),
      },
      ".*",
    );
    this.#level = h("select", { class: "gd-select", "aria-label": "Level", onchange: changed });
    this.#level.append(...LEVELS.map(([value, label]) => h("option", { value }, label)));
    this.#task = h("select", { class: "gd-select", "aria-label": "Task", onchange: changed, hidden: true });
    this.element.append(this.#text, this.#regex, this.#level, this.#task, this.#problem);
  }

  get isOpen(): boolean {
    const { task, text, level } = this.#store.filter;
    return task === null && !text && level === null;
  }

  /** Want only the lines of this task. */
  choose(task: number): void {
    if (![...this.#task.options].some(({ value }) => value === String(task))) return;
    this.#task.value = String(task);
    this.#changed(0);
  }

  draw(card: Card): void {
    const tasks = JSON.stringify(card.tasks.map(([task, label]) => [task, label]));
    if (tasks !== this.#tasks) {
      this.#tasks = tasks;
      const kept = this.#task.value;
      const all = card.kind === "sweep" ? "All trials" : card.kind === "server" ? "All replicas" : "All tasks";
      const options = card.tasks.map(([task, label]) =>
        h("option", { value: task }, label && label !== String(task) ? `${task} · ${label}` : String(task)),
      );
      this.#task.replaceChildren(h("option", { value: "" }, all), ...options);
      this.#task.value = kept;
      if (this.#task.selectedIndex < 0) this.#task.value = "";
    }
    show(this.#task, card.tasks.length > 1);
  }

  #flip(): void {
    setAttribute(this.#regex, "aria-pressed", String(this.#regex.getAttribute("aria-pressed") !== "true"));
    this.#changed(0);
  }

  #changed(delay?: number): void {
    const regex = this.#regex.getAttribute("aria-pressed") === "true";
    const filter = {
      task: this.#task.value === "" ? null : Number(this.#task.value),
      text: this.#text.value,
      regex,
      level: this.#level.value || null,
    };
    const problem = regex ? patternProblem(filter.text) : "";
    setText(this.#problem, problem);
    setAttribute(this.#text, "aria-invalid", problem ? "true" : null);
    if (problem) return;
    const isOpen = filter.task === null && !filter.text && filter.level === null;
    this.#store.wantLines(isOpen ? OPEN : filter, delay);
    this.#used();
  }
}

/** Say what is certainly wrong with a pattern; the kernel, whose patterns are Python's, has the last word. */
export function patternProblem(pattern: string): string {
  try {
    new RegExp(pattern);
    return "";
  } catch {
    return /\(\?P|\(\?[aiLmsux]+[):]|\\[AZ]/.test(pattern) ? "" : "not a pattern yet";
  }
}
