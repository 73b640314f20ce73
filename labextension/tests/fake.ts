/** Runs and answers as the server sends them. */

import type { Listing, Run } from "../src/api";

export function run(changes: Partial<Run> = {}): Run {
  return {
    id: "id-1",
    name: "digits",
    title: "digits",
    kind: "sweep",
    backend: "local",
    place: "this machine",
    state: "running",
    reason: "",
    is_over: false,
    created: 1000,
    started: 1010,
    ended: null,
    progress: { total: 12, done: 5, running: 2, waiting: 5, failed: 0 },
    remaining_s: 120,
    gpus: 2,
    gpu_percent: 87.4,
    cpu_percent: null,
    memory_bytes: null,
    cost: null,
    currency: null,
    is_idle: false,
    url: null,
    best: null,
    can_stop: true,
    can_clean: false,
    read_only: false,
    stop_costs: "2 trials are lost.",
    ...changes,
  };
}

export function listing(changes: Partial<Listing> = {}): Listing {
  return { api: 1, version: "0.1.0", time: 0, runs: [run()], places: [], ...changes };
}

export function json(value: unknown, status = 200): Response {
  return new Response(JSON.stringify(value), { status });
}

/** A stream of server-sent events that the test writes. */
export class Stream {
  #controller!: ReadableStreamDefaultController<Uint8Array>;
  readonly response = new Response(
    new ReadableStream<Uint8Array>({
      start: (controller) => {
        this.#controller = controller;
      },
    }),
  );

  send(text: string): void {
    this.#controller.enqueue(new TextEncoder().encode(text));
  }

  say(what: Listing): void {
    this.send(`event: listing\ndata: ${JSON.stringify(what)}\n\n`);
  }

  end(): void {
    this.#controller.close();
  }
}
