/** The side panel: every run of every backend in groups, and what is wrong where something cannot be seen. */

import type { Actions } from "./actions";
import type { Place } from "./api";
import { h, newId, setText, show } from "./dom";
import type { Feed } from "./feed";
import { span } from "./format";
import { type Group, grouped } from "./groups";
import { Row } from "./row";

const TICK_MS = 1000;
const MOST_ENDED = 20;
export const ENABLE = "jupyter server extension enable jupyter_gpudeploy.server";

/** A group with its heading; a person may close it. */
class Section {
  readonly list = h("ul", { class: "gdp-list" });
  readonly #count = h("span", { class: "gdp-count" });
  readonly #more: HTMLButtonElement;
  readonly element: HTMLElement;
  #all = false;

  constructor(title: string, again: () => void) {
    const id = newId("group");
    this.#more = h("button", { type: "button", class: "gdp-button gdp-more", onclick: () => this.#unfold(again) });
    this.element = h(
      "details",
      { class: "gdp-group", open: true, "aria-labelledby": id },
      h("summary", {}, h("span", { class: "gdp-title", id, role: "heading", "aria-level": 3 }, title), this.#count),
      this.list,
      this.#more,
    );
  }

  /** Return the runs of the group that are shown. */
  draw(group: Group): Group["runs"] {
    const isLong = group.name === "finished" || group.name === "failed";
    const shown = isLong && !this.#all ? group.runs.slice(0, MOST_ENDED) : group.runs;
    setText(this.#count, String(group.runs.length));
    setText(this.#more, `Show ${group.runs.length - shown.length} more`);
    show(this.#more, shown.length < group.runs.length);
    return shown;
  }

  #unfold(again: () => void): void {
    this.#all = true;
    again();
  }
}

export class PanelView {
  readonly element: HTMLElement;
  readonly #feed: Feed;
  readonly #actions: Actions;
  readonly #rows = new Map<string, Row>();
  readonly #sections = new Map<string, Section>();
  readonly #status = h("span", { class: "gdp-status", role: "status" });
  readonly #again: HTMLButtonElement;
  readonly #places = h("div", { class: "gdp-places", role: "status" });
  readonly #off = h("div", { class: "gdp-off", role: "alert" });
  readonly #empty = h("p", { class: "gdp-empty" });
  readonly #groups = h("div", { class: "gdp-groups" });
  readonly #clean: HTMLButtonElement;
  readonly #endings: (() => void)[] = [];

  constructor(feed: Feed, actions: Actions) {
    this.#feed = feed;
    this.#actions = actions;
    const button = (label: string, does: () => void): HTMLButtonElement =>
      h("button", { type: "button", class: "gdp-button", onclick: does }, label);
    this.#again = button("Try now", () => feed.retry());
    this.#clean = button("Clean finished…", () => actions.clean());
    const title = newId("panel");
    this.element = h(
      "section",
      { class: "gdp-panel", "aria-labelledby": title },
      h("h2", { class: "gdp-heading", id: title }, "Deployments"),
      h(
        "div",
        { class: "gdp-toolbar" },
        button("New deployment", () => actions.wizard()),
        this.#clean,
      ),
      h("div", { class: "gdp-line" }, this.#status, this.#again),
      this.#off,
      this.#places,
      this.#empty,
      this.#groups,
    );
    this.draw();
  }

  /** Begin to follow; returns nothing, `close` ends it. */
  open(): void {
    if (this.#endings.length) return;
    const clock = setInterval(() => this.#tick(), TICK_MS);
    this.#endings.push(
      this.#feed.listen(() => this.draw()),
      () => clearInterval(clock),
    );
    this.draw();
  }

  close(): void {
    for (const end of this.#endings.splice(0)) end();
  }

  draw(): void {
    const { listing, phase } = this.#feed;
    this.#drawStatus();
    this.#drawOff();
    const isOff = phase === "off";
    show(this.#places, !isOff && listing !== null);
    show(this.#groups, !isOff);
    show(this.#clean, !isOff && (listing?.runs.some((run) => run.can_clean) ?? false));
    this.element.toggleAttribute("data-stale", phase === "stale" || phase === "refused");
    if (!listing || isOff) {
      show(this.#empty, false);
      return;
    }
    drawPlaces(this.#places, listing.places);
    show(this.#empty, listing.runs.length === 0);
    setText(
      this.#empty,
      "Nothing was started yet. A cell that begins with %%deploy starts something; the form writes one.",
    );
    this.#drawRuns(grouped(listing.runs));
  }

  #drawRuns(groups: readonly Group[]): void {
    const focused = document.activeElement;
    const now = Date.now() / 1000;
    const kept = new Set<string>();
    const sections = groups.map((group) => {
      const section = this.#section(group);
      const items = section.draw(group).map((run) => {
        kept.add(run.id);
        let row = this.#rows.get(run.id);
        if (!row) this.#rows.set(run.id, (row = new Row(run, this.#actions)));
        row.draw(run, now);
        return row.element;
      });
      arrange(section.list, items);
      return section.element;
    });
    arrange(this.#groups, sections);
    for (const id of [...this.#rows.keys()]) if (!kept.has(id)) this.#rows.delete(id);
    // a run that has moved to another group takes the focus along
    if (focused instanceof HTMLElement && focused !== document.activeElement && this.element.contains(focused)) {
      focused.focus({ preventScroll: true });
    }
  }

  #section(group: Group): Section {
    let section = this.#sections.get(group.name);
    if (!section) this.#sections.set(group.name, (section = new Section(group.title, () => this.draw())));
    return section;
  }

  #tick(): void {
    const now = Date.now() / 1000;
    for (const row of this.#rows.values()) row.tick(now);
    this.#drawStatus();
  }

  #drawStatus(): void {
    const { phase, problem, hint, heard, next } = this.#feed;
    const [now, wait] = [Date.now(), Math.max(0, next - Date.now()) / 1000];
    const old = heard ? `what is shown is ${span((now - heard) / 1000)} old` : "nothing was seen yet";
    const soon = next ? (wait >= 1 ? `trying again in ${Math.ceil(wait)} s` : "trying again") : "trying";
    const texts: Record<typeof phase, string> = {
      idle: "",
      connecting: "Looking…",
      live: "",
      stale: `Not up to date: ${problem || "reconnecting"}; ${old}; ${soon}.`,
      off: "",
      refused: `The server refuses: ${problem}. ${hint || "Sign in to Jupyter again, then reload the page."}`,
    };
    // a clock that is read aloud every second helps nobody: what is spoken is the sentence without its numbers
    setText(this.#status, texts[phase]);
    this.#status.setAttribute(
      "aria-live",
      phase === "stale" && this.#status.dataset["phase"] === phase ? "off" : "polite",
    );
    this.#status.dataset["phase"] = phase;
    show(this.#status, texts[phase] !== "");
    show(this.#again, phase === "stale" || phase === "refused" || phase === "off");
  }

  #drawOff(): void {
    const isOff = this.#feed.phase === "off";
    show(this.#off, isOff);
    if (!isOff || this.#off.childElementCount) return;
    this.#off.append(
      h(
        "p",
        {},
        "This Jupyter server does not have the server side of jupyter_gpudeploy, so nothing can be listed here.",
      ),
      h("p", {}, "In its environment run ", h("code", {}, ENABLE), ", then restart the Jupyter server."),
      h("p", {}, "Cells, cards and the form work without it: ", h("code", {}, "%deploy ls"), " lists the runs."),
    );
  }
}

function drawPlaces(into: HTMLElement, places: readonly Place[]): void {
  const texts = places
    .filter((place) => !place.ok)
    .map(({ name, problem, hint }) => ({ name, text: [problem, hint].filter(Boolean).join(" — ") }));
  const key = JSON.stringify(texts);
  if (into.dataset["shown"] === key) return;
  into.dataset["shown"] = key;
  into.replaceChildren(
    ...texts.map(({ name, text }) => h("p", { class: "gdp-problem" }, h("strong", {}, `Cannot see ${name}. `), text)),
  );
}

/** Make these the children, in this order; what stands right is not touched. */
function arrange(parent: HTMLElement, children: readonly HTMLElement[]): void {
  const wanted = new Set<Element>(children);
  for (const child of [...parent.children]) if (!wanted.has(child)) child.remove();
  children.forEach((child, at) => {
    if (parent.children[at] !== child) parent.insertBefore(child, parent.children[at] ?? null);
  });
}
