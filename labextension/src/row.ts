/** One run in the panel: made once, then changed where something has changed, so that the focus stays where it is. */

import type { Actions } from "./actions";
import type { Run } from "./api";
import { copyButton, h, safeUrl, setAttribute, setText, show } from "./dom";
import { age, cost, number, progress, use } from "./format";

const KINDS: Record<string, string> = { manual: "environment" };

export class Row {
  readonly element: HTMLLIElement;
  run: Run;
  readonly #name = h("span", { class: "gdp-name" });
  readonly #age = h("span", { class: "gdp-age" });
  readonly #state = h("span", { class: "gdp-state" });
  readonly #bar = h("div", { class: "gdp-bar", role: "progressbar", "aria-valuemin": 0 }, h("div"));
  readonly #facts = h("div", { class: "gdp-facts" });
  readonly #reason = h("div", { class: "gdp-reason" });
  readonly #buttons: { readonly element: HTMLElement; readonly says: string; isThere: (run: Run) => boolean }[] = [];
  readonly #link = h("a", { class: "gdp-button", target: "_blank", rel: "noopener noreferrer" }, "Open");

  constructor(run: Run, actions: Actions) {
    this.run = run;
    const act = (label: string, does: (run: Run) => void): HTMLElement =>
      h("button", { type: "button", class: "gdp-button", onclick: () => does(this.run) }, label);
    const copy = copyButton("Copy URL", () => safeUrl(this.run.url) ?? "");
    copy.className = "gdp-button";
    const hasUrl = (one: Run): boolean => safeUrl(one.url) !== null && !one.is_over;
    this.#buttons.push(
      { element: act("Card", (one) => actions.watch(one)), says: "Card of", isThere: () => true },
      { element: act("Logs", (one) => actions.logs(one)), says: "Logs of", isThere: () => true },
      { element: act("Results", (one) => actions.results(one)), says: "Results of", isThere: hasResults },
      { element: this.#link, says: "Open", isThere: hasUrl },
      { element: copy, says: "Copy URL of", isThere: hasUrl },
      { element: act("Stop…", (one) => actions.stop(one)), says: "Stop…", isThere: (one) => one.can_stop },
    );
    const tools = h("div", { class: "gdp-tools" }, ...this.#buttons.map(({ element }) => element));
    this.element = h(
      "li",
      { class: "gdp-run" },
      h("div", { class: "gdp-head" }, this.#state, this.#name, this.#age),
      this.#bar,
      this.#facts,
      this.#reason,
      tools,
    );
  }

  draw(run: Run, now: number): void {
    this.run = run;
    setAttribute(this.element, "data-state", run.state);
    setAttribute(this.element, "data-id", run.id);
    setText(this.#state, run.state);
    setText(this.#name, run.title || run.name);
    setAttribute(this.#name, "title", run.title && run.title !== run.name ? `${run.title} (${run.name})` : null);
    this.tick(now);
    this.#drawBar(run);
    const best = run.best ? `best ${run.best.metric} ${number(run.best.value)}` : "";
    const where = run.backend === "local" ? "" : run.place;
    const money = cost(run);
    const idle = run.is_idle ? "idle" : "";
    const owner = run.read_only ? "someone else’s" : "";
    const facts = [KINDS[run.kind] ?? run.kind, use(run), idle, best, money && `cost ${money}`, where, owner];
    setText(this.#facts, facts.filter(Boolean).join(" · "));
    const reason = run.reason === run.state ? "" : run.reason;
    setText(this.#reason, reason);
    show(this.#reason, reason !== "");
    for (const { element, says, isThere } of this.#buttons) {
      show(element, isThere(run));
      setAttribute(element, "aria-label", `${says} ${run.name}`);
    }
    setAttribute(this.#link, "href", safeUrl(run.url));
  }

  tick(now: number): void {
    setText(this.#age, age(this.run, now));
  }

  #drawBar(run: Run): void {
    const { total, done, failed } = run.progress;
    const isShown = total > 1 && run.kind !== "server";
    show(this.#bar, isShown);
    if (!isShown) return;
    const text = progress(run);
    setAttribute(this.#bar, "aria-label", `Progress of ${run.name}`);
    setAttribute(this.#bar, "aria-valuemax", String(total));
    setAttribute(this.#bar, "aria-valuenow", String(done));
    setAttribute(this.#bar, "aria-valuetext", text);
    setAttribute(this.#bar, "data-text", text);
    const inner = this.#bar.firstElementChild as HTMLElement;
    inner.style.width = `${Math.round((100 * Math.min(done, total)) / total)}%`;
    setAttribute(inner, "data-failed", failed ? "true" : null);
  }
}

function hasResults(run: Run): boolean {
  return run.kind !== "server" && run.kind !== "manual";
}
