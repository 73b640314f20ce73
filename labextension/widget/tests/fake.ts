/** A model as anywidget gives it, and what a kernel would say to it. */

import type { Card, Line, Log, Model } from "../src/protocol";

export class FakeModel implements Model {
  readonly sent: Record<string, unknown>[] = [];
  readonly handlers = new Set<(content: unknown, buffers?: unknown) => void>();
  readonly others = new Set<() => void>();
  isDead = false;
  #seq = 0;

  constructor(readonly uid = "one") {}

  get(key: string): unknown {
    return key === "uid" ? this.uid : "digits";
  }

  on(event: string, callback: (content: unknown, buffers?: unknown) => void): void {
    if (event === "msg:custom") this.handlers.add(callback);
    else this.others.add(callback as () => void);
  }

  off(event: string, callback: (content: unknown, buffers?: unknown) => void): void {
    if (event === "msg:custom") this.handlers.delete(callback);
    else this.others.delete(callback as () => void);
  }

  /** The widget manager lets go of the kernel. */
  cutOff(): void {
    this.isDead = true;
    for (const handler of this.others) handler();
  }

  send(content: unknown): void {
    if (this.isDead) throw new Error("no comm");
    this.sent.push(content as Record<string, unknown>);
  }

  tell(content: Record<string, unknown>, buffers: unknown = []): void {
    const message = { ...content, seq: ++this.#seq };
    for (const handler of this.handlers) handler(message, buffers);
  }

  types(): unknown[] {
    return this.sent.map(({ type }) => type);
  }
}

export function card(given: Partial<Card> = {}): Card {
  return {
    title: "digits",
    name: "digits",
    uid: "u",
    kind: "sweep",
    backend: "local",
    facts: ["sweep", "local"],
    state: "running",
    reason: "",
    hint: "",
    started: 1000,
    seconds: 10,
    live: true,
    progress: null,
    eta: null,
    url: null,
    gpu_hours: 0,
    notices: [],
    problem: "",
    stale: "",
    failures: [],
    sheet: null,
    metric: "loss",
    goal: "minimize",
    best: null,
    tasks: [[0, "lr=1", "running"]],
    can_stop: true,
    gpu_note: "",
    ...given,
  };
}

export function line(number: number, text = `line ${number}`, task = 0, time: number | null = 1000 + number): Line {
  return [number, task, 1, time, null, text, 0];
}

export function log(lines: Line[], given: Partial<Log> = {}): Log {
  return { lines, before: null, hidden: 0, note: "", files: [], ...given };
}

export function snapshot(given: Record<string, unknown> = {}): Record<string, unknown> {
  return { type: "snapshot", card: card(), series: [], points: [], events: [], log: log([]), ...given };
}

export function buffers(time: number[], step: number[], value: number[]): ArrayBuffer[] {
  return [new Float64Array(time).buffer, new Float64Array(step).buffer, new Float32Array(value).buffer];
}
