/** The log: its end as it grows, older pages above, or the lines around a moment. */

import { copyButton, h, setAttribute, setText, show } from "./dom";
import { FilterBar } from "./filterbar";
import { clock, count, plural } from "./format";
import { Lines, type Row, spans } from "./lines";
import { List } from "./list";
import { colour } from "./palette";
import type { Log } from "./protocol";
import type { Store } from "./store";

const CALM_LINES = 6; // a second; more are not read aloud

export class LogView {
  readonly element: HTMLElement;
  readonly filters: FilterBar;
  readonly #list: List<Row>;
  readonly #pause: HTMLButtonElement;
  readonly #newer: HTMLButtonElement;
  readonly #banner = h("div", { class: "gd-banner", hidden: true });
  readonly #note = h("div", { class: "gd-log-note", hidden: true });
  readonly #foot = h("div", { class: "gd-log-foot", hidden: true });
  readonly #empty = h("p", { class: "gd-empty" });
  readonly #path: HTMLElement = h("code");
  /** What is looked at instead of the live end: lines around a moment, or a paused end. */
  #other: Lines | null = null;
  #isPaused = false;
  #moment: number | null = null;
  #marked = -1;
  #isAsking = false;
  #seenArrived = 0;
  #isManyTasks: boolean | null = null;
  #rate = { since: 0, arrived: 0 };
  #said = "";
  #whole = "";

  constructor(
    private readonly store: Store,
    private readonly changed: () => void,
  ) {
    this.filters = new FilterBar(store, () => this.live());
    this.#pause = h(
      "button",
      { type: "button", class: "gd-button", "aria-pressed": "false", onclick: () => this.#flip() },
      "Pause",
    );
    this.#newer = h("button", { type: "button", class: "gd-newer", hidden: true, onclick: () => this.live() });
    this.#list = new List((row) => this.#row(row), { role: "log", "aria-label": "Log", "aria-live": "off" });
    this.#list.onTop = () => this.#older();
    this.#list.onFollow = () => {
      this.#seenArrived = this.store.lines.arrived;
      this.changed();
    };
    this.filters.element.append(h("span", { class: "gd-space" }), this.#pause);
    const body = h("div", { class: "gd-log-body" }, this.#list.element, this.#empty, this.#newer);
    this.element = h("div", { class: "gd-log" }, this.filters.element, this.#banner, this.#note, body, this.#foot);
    this.element.addEventListener("keydown", (event) => this.#key(event));
  }

  /** Show the live end. */
  live(): void {
    this.#other = this.#moment = null;
    this.#isPaused = false;
    this.#marked = -1;
    this.#said = "";
    this.#list.refresh();
    this.#list.follow();
    this.changed();
  }

  /** Show the lines around a moment; `back` leads to where it was chosen. */
  jump(time: number, back: { label: string; go: () => void } | null): void {
    this.#moment = time;
    this.#tellMoment(back);
    this.store.jump(time, (log) => {
      if (this.#moment !== time) return;
      this.#other = new Lines(log);
      this.#said = log.lines.length ? "" : log.note;
      const place = this.#other.at(time);
      this.#marked = this.#other.rows[place]?.key ?? -1;
      this.#isPaused = false;
      this.#list.refresh();
      this.#list.isFollowing = false;
      this.draw();
      this.#list.reveal(Math.max(0, place));
      this.changed();
    });
  }

  /** Ask where the whole log of a task lies. */
  whole(task: number): void {
    this.store.fullLog(task, (log) => {
      this.#whole = log.files.at(-1)?.[1] ?? "";
      this.#said = log.note;
      this.changed();
    });
  }

  draw(): void {
    const card = this.store.card;
    const lines = this.#other ?? this.store.lines;
    const isMany = (card?.tasks.length ?? 0) > 1;
    if (isMany !== this.#isManyTasks) {
      this.#isManyTasks = isMany;
      this.#list.refresh();
      setAttribute(this.element, "data-many", isMany ? "true" : null);
    }
    if (this.#list.isFollowing && this.#isSelecting()) return; // what is being selected must not move
    if (card) this.filters.draw(card);
    this.#list.draw(lines.rows);
    show(this.#empty, lines.rows.length === 0);
    setText(this.#empty, this.#nothing());
    show(this.#banner, this.#moment !== null);
    this.#drawNote(lines);
    this.#drawFoot(lines);
    this.#drawNewer();
    setAttribute(this.#pause, "aria-pressed", String(this.#isPaused));
    setText(this.#pause, this.#isPaused ? "Resume" : "Pause");
    setAttribute(this.#list.element, "aria-live", this.#isCalm() ? "polite" : "off");
  }

  #nothing(): string {
    if (this.#moment !== null) return "Looking…";
    if (this.filters.isOpen) return this.store.card?.live === false ? "Nothing was printed." : "Nothing printed yet.";
    return "No line passes the filter.";
  }

  #row(row: Row): HTMLElement {
    const made = h("div", { class: "gd-line", "data-level": row.level, "data-marked": row.key === this.#marked });
    made.append(h("span", { class: "gd-when" }, row.time === null ? "" : clock(row.time)));
    if (this.#isManyTasks) {
      const badge = h("span", { class: "gd-task" }, String(row.task));
      badge.style.setProperty("--gd-task", colour(row.task));
      made.append(badge);
    }
    const text = h("span", { class: "gd-text" });
    for (const span of spans(row.text)) {
      text.append(span.colour < 0 ? span.text : h("span", { class: `gd-ansi-${span.colour}` }, span.text));
    }
    if (row.cut > 0) text.append(h("span", { class: "gd-cut" }, ` … ${plural(row.cut, "more character")} in the file`));
    made.append(text);
    return made;
  }

  #drawNote(lines: Lines): void {
    const said = this.#said || lines.note;
    const isShown = said !== "" && !(this.#moment !== null && lines.rows.length > 0);
    show(this.#note, isShown);
    if (this.#note.dataset["said"] === said) return;
    this.#note.dataset["said"] = said;
    const close = h(
      "button",
      { type: "button", class: "gd-quiet-button", "aria-label": "Close", onclick: () => this.#closeNote() },
      "✕",
    );
    const path = this.#whole && said.includes(this.#whole) ? this.#whole : "";
    this.#note.replaceChildren(
      h("span", { class: "gd-wrap" }, said),
      ...(path ? [copyButton("Copy path", () => path)] : []),
      ...(this.#said ? [close] : []),
    );
  }

  #closeNote(): void {
    this.#said = this.#whole = "";
    this.changed();
    this.#list.element.focus();
  }

  #drawFoot(lines: Lines): void {
    const hidden = this.store.lines.hidden;
    const files = (this.store.lines.files.length ? this.store.lines : lines).files;
    show(this.#foot, hidden > 0 && this.#other === null);
    if (this.#foot.hidden) return;
    const file = files.at(-1)?.[1];
    const where = files.length > 1 ? "in the files of the tasks" : file ? "" : "in the file";
    if (!this.#foot.firstChild) this.#foot.append(h("span"), this.#path);
    setText(this.#foot.firstElementChild!, `${plural(hidden, "line")} hidden, full log ${where || "at "}`);
    setText(this.#path, files.length > 1 ? "" : (file ?? ""));
  }

  #drawNewer(): void {
    const isAway = this.#other !== null || !this.#list.isFollowing;
    const fresh = this.store.lines.arrived - this.#seenArrived;
    if (!isAway) this.#seenArrived = this.store.lines.arrived;
    show(this.#newer, isAway && this.#moment === null);
    setText(this.#newer, fresh > 0 && isAway ? `↓ ${plural(fresh, "new line")}` : "↓ To the end");
  }

  #tellMoment(back: { label: string; go: () => void } | null): void {
    const button = (label: string, go: () => void): HTMLElement =>
      h("button", { type: "button", class: "gd-button", onclick: go }, label);
    this.#banner.replaceChildren(
      h("span", {}, `Around ${clock(this.#moment ?? 0)}`),
      h("span", { class: "gd-space" }),
      ...(back ? [button(back.label, back.go)] : []),
      button("Back to live", () => this.live()),
    );
    this.changed();
  }

  #older(): void {
    const lines = this.#other ?? this.store.lines;
    if (this.#isAsking || !lines.rows.length) return;
    if (lines.isTorn) {
      const time = lines.rows[0]!.time;
      if (time !== null && this.#moment === null) this.jump(time, null);
      return;
    }
    if (!lines.canGoBack) return;
    this.#isAsking = true;
    const given = setTimeout(() => (this.#isAsking = false), 5000);
    this.store.page(lines.before, (log: Log) => {
      clearTimeout(given);
      this.#isAsking = false;
      if (lines !== (this.#other ?? this.store.lines)) return;
      lines.prepend(log);
      this.changed();
    });
  }

  #flip(): void {
    if (this.#isPaused) return this.live();
    this.#isPaused = true;
    this.#moment = null;
    const lines = this.store.lines;
    this.#other = Object.assign(new Lines(), lines, { rows: [...lines.rows] });
    this.#seenArrived = lines.arrived;
    this.#list.isFollowing = false;
    this.changed();
  }

  #isSelecting(): boolean {
    const selection = getSelection();
    return Boolean(selection && !selection.isCollapsed && this.#list.element.contains(selection.anchorNode));
  }

  #isCalm(): boolean {
    const now = performance.now();
    const seconds = (now - this.#rate.since) / 1000;
    const arrived = this.store.lines.arrived;
    const isCalm = this.#list.isFollowing && (arrived - this.#rate.arrived) / Math.max(seconds, 1) < CALM_LINES;
    if (seconds > 5) this.#rate = { since: now, arrived };
    return isCalm && !this.#isPaused;
  }

  #key(event: KeyboardEvent): void {
    if (event.target instanceof HTMLInputElement || event.target instanceof HTMLSelectElement) {
      if (event.key !== "Tab") event.stopPropagation(); // or the notebook takes it for a command
      return;
    }
    if (event.key === "End") this.live();
    else if (event.key === "Escape" && (this.#other || this.#moment !== null)) this.live();
    else if (!["ArrowUp", "ArrowDown", "PageUp", "PageDown", "Home", " "].includes(event.key)) return;
    event.stopPropagation();
  }

  /** Say how many lines are held, for the tab. */
  get told(): string {
    return count(this.store.lines.rows.length);
  }
}
