/** What a person must know: failures, problems, a kernel that is gone. */

import { h, show } from "./dom";
import { clock } from "./format";
import type { Store } from "./store";

export class Notices {
  readonly element = h("div", { class: "gd-notices", hidden: true });
  readonly #loud = h("div", { role: "alert" });
  readonly #quiet = h("div");
  readonly #store: Store;
  #drawn = "";

  constructor(store: Store) {
    this.#store = store;
    this.element.append(this.#loud, this.#quiet);
  }

  draw(): void {
    const loud = this.#alerts();
    const quiet = this.#others();
    const drawn = JSON.stringify([loud, quiet]);
    if (drawn === this.#drawn) return;
    this.#drawn = drawn;
    this.#loud.replaceChildren(...lines(loud));
    this.#quiet.replaceChildren(...lines(quiet));
    show(this.element, loud.length + quiet.length > 0);
  }

  #alerts(): [string, string][] {
    const { card, error, silentSince, isCutOff } = this.#store;
    const made: [string, string][] = [];
    if (error) made.push(["error", error]);
    if (silentSince !== null) {
      const since = clock(Date.now() / 1000 - (performance.now() - silentSince) / 1000);
      const command = card ? `: %deploy watch ${card.name}` : "";
      const what = isCutOff
        ? `The kernel that showed this has ended; this is how it stood at ${since}.`
        : `The kernel has not answered since ${since}: it is busy or gone.`;
      made.push(["warning", `${what} The run goes on without it; any kernel shows it again${command}`]);
    }
    return made;
  }

  #others(): [string, string][] {
    const { card, farewell } = this.#store;
    const made: [string, string][] = (card?.failures ?? []).map((text) => ["error", text]);
    for (const text of [card?.problem, card?.stale, ...(card?.notices ?? [])]) if (text) made.push(["warning", text]);
    if (farewell) made.push(["info", farewell]);
    return made;
  }
}

function lines(said: [string, string][]): HTMLElement[] {
  return said.map(([level, text]) => h("div", { class: "gd-notice", "data-level": level }, text));
}
