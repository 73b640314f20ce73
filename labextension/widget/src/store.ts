/** What one model has said so far. Its views share it: they read, they ask, they are told what changed. */

import { Lines } from "./lines";
import {
  type Append,
  type Card,
  type Filter,
  type Happening,
  type Incoming,
  type Log,
  type Model,
  type Outgoing,
  readPoints,
} from "./protocol";
import { Series } from "./series";

export type Part = "card" | "points" | "series" | "events" | "lines" | "log" | "notice";
type Listener = (part: Part) => void;

const MOST_EVENTS = 1000;
const HIDE_AFTER_MS = 400;
const ACK_MS = 1000;
const SILENT_MS = 20_000;
const RETRY_MS = [4000, 8000, 16_000, 32_000];
export const OPEN: Filter = { task: null, text: "", regex: false, level: null };

export class Store {
  card: Card | null = null;
  /** When `card` came, by performance.now(). */
  cardAt = 0;
  series = new Map<number, Series>();
  events: Happening[] = [];
  lines = new Lines();
  filter: Filter = OPEN;
  farewell = "";
  error = "";
  isStopping = false;
  /** The kernel has not answered for a while, since performance.now() said so. */
  silentSince: number | null = null;
  /** Nobody is at the other end: the kernel has ended or was started anew. */
  isCutOff = false;
  #model: Model;
  #listeners = new Set<Listener>();
  #answers = new Map<number, (log: Log) => void>();
  #views = new Map<string, boolean>();
  #request = Math.floor(Math.random() * 2 ** 40);
  #seq = 0;
  #acked = 0;
  #heard = performance.now();
  #asked = 0;
  #tries = 0;
  #told = true;
  #hiding: ReturnType<typeof setTimeout> | undefined;
  #leaving: ReturnType<typeof setTimeout> | undefined;
  #filterTimer: ReturnType<typeof setTimeout> | undefined;
  readonly #clock: ReturnType<typeof setInterval>;
  readonly #receive = (content: unknown, buffers?: unknown): void => this.#take(content, buffers);
  readonly #onComm = (): void => this.#cutOff();
  readonly #onVisibility = (): void => this.#tellVisible();

  constructor(model: Model) {
    this.#model = model;
    model.on("msg:custom", this.#receive);
    model.on("comm_live_update", this.#onComm);
    document.addEventListener("visibilitychange", this.#onVisibility);
    this.#clock = setInterval(() => this.#tick(), ACK_MS);
  }

  /** Let go of the model. */
  close(): void {
    this.#model.off("msg:custom", this.#receive);
    this.#model.off("comm_live_update", this.#onComm);
    document.removeEventListener("visibilitychange", this.#onVisibility);
    clearInterval(this.#clock);
    clearTimeout(this.#hiding);
    clearTimeout(this.#leaving);
    clearTimeout(this.#filterTimer);
    this.#listeners.clear();
  }

  /** Be told what changed; the returned function ends it. */
  listen(listener: Listener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  // --- what views say

  /** A view was opened. */
  open(view: string): void {
    this.#views.set(view, true);
    this.#hello(view);
  }

  /** Say whether this view can be seen. */
  see(view: string, isVisible: boolean): void {
    this.#views.set(view, isVisible);
    this.#tellVisible();
  }

  leave(view: string): void {
    this.#views.delete(view);
    this.#tellVisible();
    clearTimeout(this.#leaving);
    this.#leaving = setTimeout(() => {
      if (!this.#views.size) this.send({ type: "left" });
    }, HIDE_AFTER_MS);
  }

  get isVisible(): boolean {
    return document.visibilityState !== "hidden" && [...this.#views.values()].some(Boolean);
  }

  /** Want only these lines from now on. Sent when nothing changes for a moment. */
  wantLines(filter: Filter, delay = 250): void {
    this.filter = filter;
    clearTimeout(this.#filterTimer);
    this.#filterTimer = setTimeout(() => this.#sendFilter(), delay);
  }

  page(before: unknown, answer: (log: Log) => void): void {
    this.send({ type: "page", request: this.#ask(answer), before });
  }

  jump(time: number, answer: (log: Log) => void): void {
    this.send({ type: "jump", request: this.#ask(answer), time });
  }

  fullLog(task: number, answer: (log: Log) => void): void {
    this.send({ type: "full_log", request: this.#ask(answer), task });
  }

  stop(): void {
    this.error = "";
    this.isStopping = !this.isCutOff;
    if (this.isCutOff)
      this.error = `Nobody is there to stop it from here; any kernel can: %deploy stop ${this.card?.name}`;
    else this.send({ type: "stop" });
    this.#tell("notice");
  }

  /** Send, if there is anybody to send to: the model of a kernel that is gone throws. */
  send(message: Outgoing): void {
    try {
      this.#model.send(message);
    } catch {
      this.silentSince ??= performance.now();
      this.#tell("notice");
    }
  }

  // --- what the kernel says

  #take(content: unknown, buffers: unknown): void {
    if (typeof content !== "object" || content === null) return;
    const message = content as Incoming;
    if (typeof message.seq === "number") this.#seq = Math.max(this.#seq, message.seq);
    this.#heard = performance.now();
    this.#tries = 0;
    if (this.silentSince !== null) {
      this.silentSince = null;
      this.isCutOff = false;
      this.#tell("notice");
    }
    try {
      this.#obey(message, buffers);
    } catch (error) {
      console.warn("jupyter_gpudeploy: a message could not be understood", error);
    }
  }

  #obey(message: Incoming, buffers: unknown): void {
    switch (message.type) {
      case "snapshot":
        this.series.clear();
        this.events = message.events.slice(-MOST_EVENTS);
        this.lines = new Lines(message.log);
        this.#takeCard(message.card);
        this.#takePoints(message, buffers);
        return this.#tell("card", "series", "points", "events", "log");
      case "append":
        this.#takePoints(message, buffers);
        return this.#tell("points");
      case "card":
        this.#takeCard(message.card);
        return this.#tell("card");
      case "events":
        this.events = [...this.events, ...message.events].slice(-MOST_EVENTS);
        return this.#tell("events");
      case "lines":
        this.lines.append(message.lines);
        this.lines.hidden = message.hidden;
        return this.#tell("lines");
      case "log":
        return this.#answer(message.request, message.log);
      case "stopping":
        this.isStopping = true;
        return this.#tell("notice");
      case "error":
        this.isStopping = false;
        this.error = message.message;
        return this.#tell("notice");
      case "bye":
        this.farewell = message.message || "nothing more comes here";
        return this.#tell("notice");
    }
  }

  /** The widget manager has let go of the kernel. What is heard later proves that somebody is there again. */
  #cutOff(): void {
    if (this.farewell || (this.card && !this.card.live)) return;
    this.isCutOff = true;
    this.silentSince ??= this.#heard;
    this.#tell("notice");
  }

  #takeCard(card: Card): void {
    this.card = card;
    this.cardAt = performance.now();
    if (!card.live) this.isStopping = false;
  }

  #takePoints(message: Append | { series: Append["series"]; points: Append["points"] }, buffers: unknown): void {
    for (const head of message.series) this.series.set(head.id, new Series(head));
    const points = readPoints(buffers);
    let start = 0;
    for (const [id, count] of message.points) {
      this.series.get(id)?.append(points, start, count);
      start += count;
    }
    if (message.series.length) this.#tell("series");
  }

  // --- questions and answers

  #ask(answer: (log: Log) => void): number {
    this.#answers.set(++this.#request, answer);
    if (this.#answers.size > 20) this.#answers.delete(this.#answers.keys().next().value ?? 0);
    return this.#request;
  }

  #answer(request: number, log: Log): void {
    const answer = this.#answers.get(request);
    this.#answers.delete(request);
    answer?.(log);
  }

  #sendFilter(): void {
    const request = this.#ask((log) => {
      if (request !== this.#filtering) return;
      this.lines = new Lines(log);
      this.#tell("log");
    });
    this.#filtering = request;
    this.send({ type: "filter", request, ...this.filter });
  }
  #filtering = 0;

  #hello(view: string): void {
    this.#asked = performance.now();
    this.send({ type: "hello", view });
    if (this.filter !== OPEN) this.wantLines(this.filter, 0); // a hello wants every line again
  }

  #tick(): void {
    const now = performance.now();
    if (this.#seq > this.#acked) {
      this.#acked = this.#seq;
      this.send({ type: "ack", seq: this.#acked });
    }
    if (!this.isVisible || this.farewell || (this.card && !this.card.live)) return;
    const view = [...this.#views.keys()][0];
    const isQuiet = now - this.#heard > (this.card ? SILENT_MS : 0);
    if (!isQuiet || view === undefined) return;
    if (now - this.#asked > (RETRY_MS[this.#tries] ?? 60_000)) {
      if (this.#tries++ > 0 || !this.card) this.silentSince ??= this.#heard;
      this.#hello(view);
      this.#tell("notice");
    }
  }

  #tellVisible(): void {
    clearTimeout(this.#hiding);
    const say = (): void => {
      if (this.#told === this.isVisible) return;
      this.#told = this.isVisible;
      this.#heard = this.#asked = performance.now();
      this.send({ type: "visible", visible: this.#told });
    };
    if (this.isVisible) say();
    else this.#hiding = setTimeout(say, HIDE_AFTER_MS);
  }

  #tell(...parts: Part[]): void {
    for (const listener of this.#listeners) for (const part of parts) listener(part);
  }
}
