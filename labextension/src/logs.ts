/** The log of a run in a tab of its own: it goes on while it can be seen, and keeps no more lines than a page bears. */

import { type Api, ApiError, type LogPart } from "./api";
import { h, newId, setText, show } from "./dom";

const AGAIN_MS = 1000;
const SLOW_MS = 10_000;
const LONGEST_MS = 30_000;
const MOST_LINES = 5000;
const PIECE_LINES = 250;
const NEAR_END_PX = 24;
const OVER = new Set(["succeeded", "failed", "stopped", "lost"]);

export class LogView {
  readonly element: HTMLElement;
  readonly #api: Api;
  readonly #id: string;
  readonly #text: HTMLElement;
  readonly #choice = h("select", {});
  readonly #follow: HTMLButtonElement;
  readonly #note = h("span", { class: "gdp-note" });
  readonly #status = h("span", { class: "gdp-status", role: "status" });
  #task: number | null = null;
  #at = -1;
  #attempt: number | null = null;
  #lines = 0;
  #isFollowing = true;
  #isOpen = false;
  #wait = AGAIN_MS;
  #turn = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(api: Api, id: string, name: string) {
    this.#api = api;
    this.#id = id;
    this.#text = h("div", {
      class: "gdp-log",
      role: "log",
      "aria-label": `Log of ${name}`,
      tabindex: 0,
      onscroll: () => this.#scrolled(),
    });
    this.#follow = h("button", { type: "button", class: "gdp-button", onclick: () => this.follow(!this.#isFollowing) });
    const choice = newId("task");
    this.#choice.id = choice;
    this.#choice.addEventListener("change", () => this.#choose(Number(this.#choice.value)));
    this.element = h(
      "div",
      { class: "gdp-logs" },
      h(
        "div",
        { class: "gdp-toolbar" },
        h("label", { for: choice }, "Task"),
        this.#choice,
        this.#follow,
        this.#status,
        this.#note,
      ),
      this.#text,
    );
    this.follow(true);
    setText(this.#note, `Only the end is shown. All of it: %deploy logs ${name} --all`);
    show(this.#note, false);
  }

  open(): void {
    if (this.#isOpen) return;
    this.#isOpen = true;
    void this.#read();
  }

  /** Ask no more until it is opened again. */
  close(): void {
    this.#isOpen = false;
    this.#turn += 1;
    clearTimeout(this.#timer);
  }

  /** Whether the end stays in sight. Lines come in either case. */
  follow(isFollowing: boolean): void {
    this.#isFollowing = isFollowing;
    setText(this.#follow, isFollowing ? "Pause" : "Follow");
    this.#follow.setAttribute("aria-label", isFollowing ? "Pause: stay where I read" : "Follow: keep the end in sight");
    if (isFollowing) this.#text.scrollTop = this.#text.scrollHeight;
  }

  #choose(task: number): void {
    this.#task = task;
    this.#at = -1;
    this.#attempt = null;
    this.#lines = 0;
    this.#text.replaceChildren();
    this.#turn += 1;
    clearTimeout(this.#timer);
    void this.#read();
  }

  async #read(): Promise<void> {
    const turn = ++this.#turn;
    try {
      const part = await this.#api.log(this.#id, this.#task, this.#at, this.#attempt);
      if (turn !== this.#turn) return;
      this.#take(part);
      setText(this.#status, "");
      const isOver = part.tasks.every(({ state }) => OVER.has(state));
      this.#wait = part.to < part.size && part.to > part.from ? 0 : isOver ? SLOW_MS : AGAIN_MS;
    } catch (error) {
      if (turn !== this.#turn) return;
      const known = error instanceof ApiError ? error : new ApiError(0, String(error));
      this.#wait = Math.min(LONGEST_MS, Math.max(AGAIN_MS, this.#wait) * 2);
      const said = [known.message, known.hint].filter(Boolean).join("; ");
      setText(this.#status, `Not up to date: ${said}. Trying again in ${Math.round(this.#wait / 1000)} s.`);
    }
    if (this.#isOpen) this.#timer = setTimeout(() => void this.#read(), this.#wait);
  }

  #take(part: LogPart): void {
    this.#offer(part);
    const isFirst = this.#at < 0;
    if (isFirst) show(this.#note, part.from > 0);
    else if (part.attempt !== this.#attempt) this.#append([`— attempt ${part.attempt} begins —`]);
    else if (part.from !== this.#at || part.cut) this.#append(["— a part of the log was left out —"]);
    this.#attempt = part.attempt;
    this.#at = part.to;
    if (!part.text) {
      if (isFirst && part.size === 0) this.#text.dataset["empty"] = "Nothing was printed yet.";
      return;
    }
    const lines = part.text.split("\n");
    if (lines[lines.length - 1] === "") lines.pop();
    this.#append(lines);
  }

  #offer(part: LogPart): void {
    this.#task = part.task;
    const options = this.#choice.options;
    part.tasks.forEach(({ number, name, state }, at) => {
      const text = [`${number}`, name === String(number) ? "" : name, state].filter(Boolean).join(" · ");
      const option = options[at];
      if (!option) this.#choice.append(h("option", { value: number }, text));
      else setText(option, text);
    });
    if (this.#choice.value !== String(part.task)) this.#choice.value = String(part.task);
  }

  #append(lines: readonly string[]): void {
    delete this.#text.dataset["empty"];
    for (let at = 0; at < lines.length; at += PIECE_LINES) {
      const some = lines.slice(at, at + PIECE_LINES);
      this.#text.append(h("pre", { "data-lines": some.length }, some.join("\n")));
      this.#lines += some.length;
    }
    while (this.#lines > MOST_LINES && this.#text.firstElementChild && this.#text.childElementCount > 1) {
      this.#lines -= Number(this.#text.firstElementChild.getAttribute("data-lines"));
      this.#text.firstElementChild.remove();
      show(this.#note, true);
    }
    if (this.#isFollowing) this.#text.scrollTop = this.#text.scrollHeight;
  }

  #scrolled(): void {
    const { scrollTop, scrollHeight, clientHeight } = this.#text;
    const isAtEnd = scrollHeight - scrollTop - clientHeight < NEAR_END_PX;
    if (this.#isFollowing && !isAtEnd) this.follow(false);
  }
}
