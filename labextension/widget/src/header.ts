/** The head of the card: what it is, where it stands, how long, what can be done. */

import { copyButton, h, safeUrl, setAttribute, setText, show } from "./dom";
import { duration, roughly } from "./format";
import type { Card, Progress } from "./protocol";
import { STATES } from "./sheet";
import { StopButton } from "./stop";
import type { Store } from "./store";

const ORDER = ["succeeded", "ready", "failed", "lost", "stopped", "running", "starting"];

export class Header {
  readonly element: HTMLElement;
  readonly fullLog: HTMLButtonElement;
  readonly #title = h("span", { class: "gd-title" });
  readonly #pill = h("span", { class: "gd-pill" });
  readonly #facts = h("span", { class: "gd-facts" });
  readonly #time = h("span", { class: "gd-time" });
  readonly #hours = h("span", { class: "gd-hours" });
  readonly #bar = h("div", { class: "gd-bar", role: "progressbar", "aria-valuemin": "0" });
  readonly #progress = h("div", { class: "gd-progress" });
  readonly #done = h("span");
  readonly #eta = h("span");
  readonly #reason = h("div", { class: "gd-reason gd-wrap", hidden: true });
  readonly #hint = h("div", { class: "gd-hint", hidden: true });
  readonly #link = h("a", { class: "gd-link", target: "_blank", rel: "noopener noreferrer", hidden: true });
  readonly #copyUrl: HTMLButtonElement;
  readonly #stop: StopButton;
  readonly #store: Store;

  constructor(store: Store, fullLog: () => void) {
    this.#store = store;
    this.#stop = new StopButton(store);
    this.#copyUrl = copyButton("Copy URL", () => store.card?.url ?? "");
    this.fullLog = h("button", { type: "button", class: "gd-button", onclick: fullLog }, "Full log");
    const left = h("div", { class: "gd-head-left" }, this.#title, this.#pill, this.#facts);
    const right = h("div", { class: "gd-head-right" }, this.#hours, this.#time);
    this.#progress.append(this.#done, this.#eta);
    this.element = h(
      "div",
      { class: "gd-header" },
      h("div", { class: "gd-head" }, left, right),
      this.#bar,
      h(
        "div",
        { class: "gd-second" },
        h("div", { class: "gd-said" }, this.#progress, this.#reason, this.#hint, this.#link),
        h("div", { class: "gd-actions" }, this.#copyUrl, this.fullLog, this.#stop.button),
      ),
      this.#stop.question,
    );
  }

  draw(card: Card): void {
    setText(this.#title, card.title || card.name);
    setAttribute(this.#title, "title", card.name);
    setText(this.#pill, this.#store.isStopping && card.live ? "stopping" : card.state);
    setAttribute(this.#pill, "data-state", STATES.has(card.state) ? card.state : "waiting");
    setText(this.#facts, card.facts.join(" · "));
    setText(this.#reason, card.reason);
    show(this.#reason, card.reason !== "");
    setText(this.#hint, card.hint && `→ ${card.hint}`);
    show(this.#hint, card.hint !== "");
    const url = safeUrl(card.url);
    show(this.#link, url !== null);
    show(this.#copyUrl, url !== null);
    setAttribute(this.#link, "href", url);
    setText(this.#link, url === null ? "" : (card.url ?? ""));
    this.#drawProgress(card.progress);
    this.#stop.draw(card);
    this.tick(card);
  }

  /** What moves by itself: how long, how much, how long still. */
  tick(card: Card): void {
    const until = this.#store.silentSince ?? performance.now();
    const since = card.live ? Math.max(0, until - this.#store.cardAt) / 1000 : 0;
    const seconds = card.seconds === null ? null : card.seconds + (card.started === null ? 0 : since);
    setText(this.#time, seconds === null ? "" : duration(seconds));
    const rate = card.seconds ? card.gpu_hours / card.seconds : 0;
    const hours = card.gpu_hours + rate * since;
    setText(this.#hours, hours > 0 ? `${hours < 10 ? hours.toFixed(2) : hours.toFixed(1)} GPU h` : "");
    const left = card.eta === null || !card.live ? null : Math.max(0, card.eta - since);
    setText(this.#eta, left === null ? "" : `${roughly(left)} left`);
  }

  #drawProgress(progress: Progress | null): void {
    show(this.#bar, progress !== null && progress.total > 1);
    show(this.#progress, progress !== null);
    if (!progress) return;
    setText(this.#done, progress.text);
    const shares = ORDER.filter((state) => (progress.counts[state] ?? 0) > 0);
    while (this.#bar.children.length > shares.length) this.#bar.lastElementChild?.remove();
    shares.forEach((state, place) => {
      const piece = (this.#bar.children[place] ?? this.#bar.appendChild(h("div"))) as HTMLElement;
      setAttribute(piece, "data-state", state);
      piece.style.width = `${((100 * progress.counts[state]!) / Math.max(1, progress.total)).toFixed(2)}%`;
    });
    const done = ["succeeded", "failed", "stopped", "lost"].reduce(
      (sum, state) => sum + (progress.counts[state] ?? 0),
      0,
    );
    setAttribute(this.#bar, "aria-valuemax", String(progress.total));
    setAttribute(this.#bar, "aria-valuenow", String(done));
    setAttribute(this.#bar, "aria-label", progress.text);
  }
}
