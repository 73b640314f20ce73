/** The one listing that panel and commands look at: kept new by a stream, opened again and again where it breaks. */

import { type Api, ApiError, type Listing, type Run } from "./api";

/** `idle`: nobody looks. `off`: the server extension is not there. `refused`: not signed in any more. */
export type Phase = "idle" | "connecting" | "live" | "stale" | "off" | "refused";

const FIRST_MS = 1000;
const LONGEST_MS = 30_000;
/** The server says something at least every 15 s. */
const SILENCE_MS = 40_000;
const FULL = 503;

export class Feed {
  phase: Phase = "idle";
  listing: Listing | null = null;
  /** Why it is not live, and the way out. */
  problem = "";
  hint = "";
  /** When something was last heard and when it is tried again, in milliseconds. */
  heard = 0;
  next = 0;
  readonly #api: Api;
  readonly #listeners = new Set<() => void>();
  #every: number;
  #wait = FIRST_MS;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #silence: ReturnType<typeof setTimeout> | undefined;
  #stream: AbortController | null = null;

  constructor(api: Api, every = 2) {
    this.#api = api;
    this.#every = every;
  }

  /** Call `listener` at every change; returns what ends that. */
  listen(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  run(id: string): Run | undefined {
    return this.listing?.runs.find((run) => run.id === id);
  }

  /** How often the server looks, in seconds. */
  set every(seconds: number) {
    if (seconds === this.#every) return;
    this.#every = seconds;
    if (this.#stream) this.retry();
  }

  open(): void {
    if (this.phase !== "idle") return;
    this.#say(this.listing ? "stale" : "connecting");
    void this.#read();
  }

  close(): void {
    this.#end();
    this.#say("idle");
  }

  /** Try again now. */
  retry(): void {
    if (this.phase === "idle") return;
    this.#end();
    this.#wait = FIRST_MS;
    void this.#read();
  }

  async #read(): Promise<void> {
    const stream = new AbortController();
    this.#stream = stream;
    this.next = 0;
    try {
      this.#listenFor(stream);
      for await (const listing of this.#api.changes(this.#every, stream.signal, () => this.#listenFor(stream))) {
        if (this.#stream !== stream) return;
        this.#take(listing);
      }
      if (this.#stream === stream) this.#later(new ApiError(0, "the connection was closed"));
    } catch (error) {
      if (this.#stream === stream) await this.#failed(error, stream);
    }
  }

  async #failed(error: unknown, stream: AbortController): Promise<void> {
    if (error instanceof ApiError && error.status === FULL) {
      // no stream is free: look once, and come back
      try {
        const listing = await this.#api.runs();
        if (this.#stream !== stream) return;
        this.#take(listing);
        this.#wait = Math.max(5000, this.#every * 1000);
        this.#again();
      } catch (other) {
        if (this.#stream === stream) this.#later(other);
      }
      return;
    }
    this.#later(error);
  }

  #take(listing: Listing): void {
    this.listing = listing;
    this.heard = Date.now();
    this.#wait = FIRST_MS;
    this.problem = this.hint = "";
    this.#say("live");
  }

  #listenFor(stream: AbortController): void {
    this.heard = Date.now();
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => {
      if (this.#stream !== stream) return;
      stream.abort();
      this.#later(new ApiError(0, "the server has fallen silent"));
    }, SILENCE_MS);
  }

  #later(error: unknown): void {
    const known = error instanceof ApiError ? error : new ApiError(0, "the connection was lost");
    this.problem = known.message;
    this.hint = known.hint;
    this.#again();
    const phase: Phase =
      known.status === 404 ? "off" : known.status === 401 || known.status === 403 ? "refused" : "stale";
    this.#say(phase);
  }

  #again(): void {
    this.#end();
    this.next = Date.now() + this.#wait;
    this.#timer = setTimeout(() => void this.#read(), this.#wait);
    this.#wait = Math.min(LONGEST_MS, this.#wait * 2);
  }

  #end(): void {
    clearTimeout(this.#timer);
    clearTimeout(this.#silence);
    this.#stream?.abort();
    this.#stream = null;
  }

  #say(phase: Phase): void {
    this.phase = phase;
    for (const listener of [...this.#listeners]) listener();
  }
}
