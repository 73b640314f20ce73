/** The stop button, which asks in its place before it does anything. */

import { h, newId, setText, show } from "./dom";
import { plural } from "./format";
import type { Card } from "./protocol";
import type { Store } from "./store";

/** Say what ends and what is lost. */
export function consequence(card: Card): string {
  const counts = card.progress?.counts ?? {};
  const running = (counts["running"] ?? 0) + (counts["starting"] ?? 0);
  const waiting = counts["waiting"] ?? 0;
  const done = counts["succeeded"] ?? 0;
  if (card.kind === "server")
    return "It answers no more requests, and those in flight are cut off. Its cell starts it again.";
  if (card.kind !== "sweep") return "What it has not saved is lost; its log and what it reported stay.";
  const parts = [];
  if (running)
    parts.push(
      `${plural(running, "running trial")} ${running === 1 ? "ends" : "end"}, and what ${running === 1 ? "it has" : "they have"} not saved is lost`,
    );
  if (waiting) parts.push(`${plural(waiting, "trial")} will not start`);
  if (done) parts.push(`the ${plural(done, "finished trial")} ${done === 1 ? "stays" : "stay"}`);
  const said = parts.join("; ");
  return said ? `${said[0]!.toUpperCase()}${said.slice(1)}.` : "No trial has begun.";
}

export class StopButton {
  readonly button: HTMLButtonElement;
  readonly question: HTMLElement;
  readonly #what = h("strong");
  readonly #lost = h("span");
  readonly #keep: HTMLButtonElement;
  readonly #store: Store;

  constructor(store: Store) {
    this.#store = store;
    this.button = h(
      "button",
      { type: "button", class: "gd-button", hidden: true, onclick: () => this.#ask() },
      "Stop…",
    );
    this.#keep = h("button", { type: "button", class: "gd-button", onclick: () => this.#close() }, "Keep running");
    const stop = h(
      "button",
      { type: "button", class: "gd-button gd-danger", onclick: () => this.#stop() },
      "Stop the run",
    );
    this.#what.id = newId("stop");
    this.#lost.id = newId("lost");
    this.question = h(
      "div",
      {
        class: "gd-question",
        role: "alertdialog",
        "aria-labelledby": this.#what.id,
        "aria-describedby": this.#lost.id,
        hidden: true,
        onkeydown: (event) => this.#key(event as KeyboardEvent),
      },
      h("div", { class: "gd-wrap" }, this.#what, " ", this.#lost),
      h("div", { class: "gd-actions" }, this.#keep, stop),
    );
  }

  draw(card: Card): void {
    const isOver = !card.live || !card.can_stop;
    show(this.button, !isOver);
    this.button.disabled = this.#store.isStopping;
    setText(this.button, this.#store.isStopping ? "Stopping…" : "Stop…");
    if (isOver && !this.question.hidden) this.#close();
    if (!this.question.hidden) setText(this.#lost, consequence(card));
  }

  #ask(): void {
    const card = this.#store.card;
    if (!card) return;
    setText(this.#what, `Stop ${card.name}?`);
    setText(this.#lost, consequence(card));
    show(this.question, true);
    this.#keep.focus();
  }

  #close(): void {
    const hadFocus = this.question.contains(document.activeElement);
    show(this.question, false);
    if (hadFocus) this.button.focus();
  }

  #stop(): void {
    this.#store.stop();
    this.#close();
  }

  #key(event: KeyboardEvent): void {
    if (event.key === "Escape") this.#close();
    if (event.key !== "Tab") event.stopPropagation();
  }
}
