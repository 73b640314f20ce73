/** The table of trials, the best on top. */

import { h } from "./dom";
import type { Card, Sheet } from "./protocol";

const STAR = "★";
export const STATES = new Set(["waiting", "starting", "running", "ready", "succeeded", "failed", "stopped", "lost"]);

/** Return the rows as they are shown: the best first, the others in their order. */
export function arranged(sheet: Sheet): { row: string[]; state: string; isBest: boolean }[] {
  const rows = sheet.rows.map((row, place) => ({ row, state: sheet.states[place] ?? "", isBest: row[0] === STAR }));
  return [...rows.filter(({ isBest }) => isBest), ...rows.filter(({ isBest }) => !isBest)];
}

export interface RowActions {
  point: (task: number | null) => void;
  choose: (task: number) => void;
}

export class SheetView {
  readonly element = h("div", { class: "gd-sheet", hidden: true });
  readonly #actions: RowActions;
  #drawn = "";

  constructor(actions: RowActions) {
    this.#actions = actions;
  }

  draw(card: Card): void {
    const drawn = JSON.stringify(card.sheet);
    if (drawn === this.#drawn) return;
    this.#drawn = drawn;
    const sheet = card.sheet;
    this.element.hidden = !sheet?.rows.length;
    if (!sheet) return this.element.replaceChildren();
    const stateAt = sheet.columns.findIndex(({ title }) => title === "state");
    const taskAt = sheet.columns.findIndex(({ title }) => ["trial", "replica", "task"].includes(title));
    const head = sheet.columns.map(({ title, numeric }) =>
      h("th", { scope: "col", class: numeric ? "gd-number" : "" }, title),
    );
    const rows = arranged(sheet).map(({ row, state, isBest }) => {
      const cells = row.map((text, place) =>
        cell(text, sheet.columns[place]?.numeric ?? false, place === stateAt ? state : "", place === taskAt),
      );
      return this.#row(cells, Number(row[taskAt] ?? NaN), isBest);
    });
    const top = this.element.scrollTop;
    const table = h(
      "table",
      {},
      h("caption", { class: "gd-unseen" }, "Trials"),
      h("thead", {}, h("tr", {}, ...head)),
      h("tbody", {}, ...rows),
    );
    const more = sheet.more > 0 ? h("div", { class: "gd-more" }, `and ${sheet.more} more`) : null;
    this.element.replaceChildren(table, ...(more ? [more] : []));
    this.element.scrollTop = top;
    if (this.element.scrollHeight > this.element.clientHeight) this.element.setAttribute("tabindex", "0");
    else this.element.removeAttribute("tabindex");
  }

  #row(cells: HTMLElement[], task: number, isBest: boolean): HTMLElement {
    const isTask = Number.isInteger(task);
    const attributes = {
      class: isBest ? "gd-best" : "",
      onpointerenter: () => this.#actions.point(isTask ? task : null),
      onpointerleave: () => this.#actions.point(null),
      ondblclick: () => isTask && this.#actions.choose(task),
    };
    return h("tr", attributes, ...cells);
  }
}

function cell(text: string, isNumeric: boolean, state: string, isTask: boolean): HTMLElement {
  const dot =
    state &&
    h("span", { class: "gd-state-dot", "data-state": STATES.has(state) ? state : "waiting", "aria-hidden": "true" });
  const inner: (Node | string)[] = dot ? [dot, text] : [text];
  if (text === STAR) inner.splice(0, 1, h("span", { "aria-label": "best" }, STAR));
  return isTask
    ? h("th", { scope: "row", class: "gd-number gd-row-head" }, ...inner)
    : h("td", { class: isNumeric ? "gd-number" : "" }, ...inner);
}
