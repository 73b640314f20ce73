/** The trials of a run as a table that can be sorted. */

import { type Api, ApiError, type Cell, type Results } from "./api";
import { h, setText } from "./dom";
import { number } from "./format";

export class ResultsView {
  readonly element: HTMLElement;
  readonly #api: Api;
  readonly #id: string;
  readonly #name: string;
  readonly #status = h("span", { class: "gdp-status", role: "status" });
  readonly #place = h("div", { class: "gdp-table", tabindex: 0, role: "region" });
  #results: Results | null = null;
  #column = -1;
  #isDown = false;

  constructor(api: Api, id: string, name: string) {
    this.#api = api;
    this.#id = id;
    this.#name = name;
    this.#place.setAttribute("aria-label", `Results of ${name}`);
    const refresh = h("button", { type: "button", class: "gdp-button", onclick: () => void this.read() }, "Refresh");
    this.element = h(
      "div",
      { class: "gdp-results" },
      h("div", { class: "gdp-toolbar" }, refresh, this.#status),
      this.#place,
    );
  }

  async read(): Promise<void> {
    setText(this.#status, "Reading…");
    try {
      this.#results = await this.#api.results(this.#id);
    } catch (error) {
      const known = error instanceof ApiError ? error : new ApiError(0, String(error));
      setText(this.#status, [known.message, known.hint].filter(Boolean).join("; "));
      return;
    }
    const { rows, total, sorted_by } = this.#results;
    const noun = total === 1 ? "row" : "rows";
    const all = rows.length < total ? `; all: df = %deploy results ${this.#name}` : "";
    setText(
      this.#status,
      `${rows.length < total ? `${rows.length} of ` : ""}${total} ${noun}${sorted_by ? `, best ${sorted_by} first` : ""}${all}`,
    );
    this.#draw();
  }

  #draw(): void {
    const results = this.#results;
    if (!results) return;
    const rows = [...results.rows];
    const at = this.#column;
    if (at >= 0) rows.sort((one, other) => order(one[at] ?? null, other[at] ?? null, this.#isDown));
    const head = results.columns.map((name, column) => {
      const sort = column === at ? (this.#isDown ? "descending" : "ascending") : "none";
      const button = h("button", { type: "button", onclick: () => this.#sort(column) }, name);
      return h("th", { scope: "col", "aria-sort": sort }, button);
    });
    const body = rows.map((row) =>
      h(
        "tr",
        {},
        ...row.map((value) => h("td", typeof value === "number" ? { class: "gdp-number" } : {}, said(value))),
      ),
    );
    this.#place.replaceChildren(h("table", {}, h("thead", {}, h("tr", {}, ...head)), h("tbody", {}, ...body)));
  }

  #sort(column: number): void {
    this.#isDown = this.#column === column && !this.#isDown;
    this.#column = column;
    this.#draw();
    this.#place.querySelectorAll<HTMLElement>("th button")[column]?.focus();
  }
}

function said(value: Cell): string {
  return value === null ? "" : typeof value === "number" ? number(value) : String(value);
}

/** Compare two values; what is not known stands last in either direction. */
export function order(one: Cell, other: Cell, isDown: boolean): number {
  if (one === null || other === null) return one === other ? 0 : one === null ? 1 : -1;
  const sign = isDown ? -1 : 1;
  if (typeof one === "number" && typeof other === "number") return sign * (one - other);
  return sign * String(one).localeCompare(String(other), undefined, { numeric: true });
}
