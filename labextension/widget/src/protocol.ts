/** Every message between the kernel and a card. The other side is jupyter_gpudeploy/notebook/card/protocol.py. */

export interface Progress {
  text: string;
  total: number;
  counts: Record<string, number>;
}

export interface Sheet {
  columns: { title: string; numeric: boolean }[];
  rows: string[][];
  states: string[];
  more: number;
}

/** Number, label and state of a task. */
export type Task = [number, string, string];

export interface Card {
  title: string;
  name: string;
  uid: string;
  kind: string;
  backend: string;
  facts: string[];
  state: string;
  reason: string;
  hint: string;
  started: number | null;
  seconds: number | null;
  live: boolean;
  progress: Progress | null;
  eta: number | null;
  url: string | null;
  gpu_hours: number;
  notices: string[];
  problem: string;
  stale: string;
  failures: string[];
  sheet: Sheet | null;
  metric: string | null;
  goal: "minimize" | "maximize" | null;
  best: number | null;
  tasks: Task[];
  can_stop: boolean;
  gpu_note: string;
}

export interface SeriesHead {
  id: number;
  chart: string;
  label: string;
  task: number | null;
  unit: string;
  x: "time" | "step";
  na?: string;
}

/** Time, task, level and text of something that happened. */
export type Happening = [number, number | null, string, string];

/** Number, task, attempt, time, level, text, and how many characters were left out. */
export type Line = [number, number, number, number | null, string | null, string, number];

/** Opaque: where older lines are found. */
export type Cursor = unknown;

export interface Log {
  lines: Line[];
  before: Cursor;
  hidden: number;
  note: string;
  files: [number, string][];
}

export interface Snapshot {
  type: "snapshot";
  card: Card;
  series: SeriesHead[];
  points: [number, number][];
  events: Happening[];
  log: Log;
}

export interface Append {
  type: "append";
  series: SeriesHead[];
  points: [number, number][];
}

export type Incoming = { seq?: number } & (
  | Snapshot
  | Append
  | { type: "card"; card: Card }
  | { type: "events"; events: Happening[] }
  | { type: "lines"; lines: Line[]; hidden: number }
  | { type: "log"; request: number; log: Log }
  | { type: "stopping" }
  | { type: "error"; message: string }
  | { type: "bye"; message: string }
);

export interface Filter {
  task: number | null;
  text: string;
  regex: boolean;
  level: string | null;
}

export type Outgoing =
  | { type: "hello"; view: string }
  | { type: "ack"; seq: number }
  | { type: "visible"; visible: boolean }
  | { type: "left" }
  | ({ type: "filter"; request: number } & Filter)
  | { type: "page"; request: number; before: Cursor }
  | { type: "jump"; request: number; time: number }
  | { type: "full_log"; request: number; task: number }
  | { type: "stop" };

/** What anywidget gives: the synced traits and the messages of one model. */
export interface Model {
  get(key: string): unknown;
  on(event: string, callback: (content: unknown, buffers?: unknown) => void): void;
  off(event: string, callback: (content: unknown, buffers?: unknown) => void): void;
  send(content: unknown): void;
}

export interface Points {
  time: Float64Array;
  step: Float64Array;
  value: Float32Array;
}

/** Copy a buffer, whatever it came as, so that it is aligned for numbers; what is none is empty. */
function bytes(buffer: unknown): ArrayBuffer {
  if (buffer instanceof ArrayBuffer) return buffer.slice(0);
  if (!ArrayBuffer.isView(buffer)) return new ArrayBuffer(0);
  const copy = new Uint8Array(buffer.byteLength);
  copy.set(new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength));
  return copy.buffer;
}

function whole(buffer: ArrayBuffer, width: number): ArrayBuffer {
  const spare = buffer.byteLength % width;
  return spare ? buffer.slice(0, buffer.byteLength - spare) : buffer;
}

/** Read the three buffers of a message. */
export function readPoints(buffers: unknown): Points {
  const [time, step, value] = Array.isArray(buffers) ? (buffers as unknown[]) : [];
  return {
    time: new Float64Array(whole(bytes(time), 8)),
    step: new Float64Array(whole(bytes(step), 8)),
    value: new Float32Array(whole(bytes(value), 4)),
  };
}
