/** The points of one curve, in arrays that grow; the oldest are let go. */

import type { Points, SeriesHead } from "./protocol";

export const KEEP = 4000;

export class Series {
  readonly head: SeriesHead;
  time = new Float64Array(64);
  step = new Float64Array(64);
  value = new Float32Array(64);
  length = 0;
  #smooth: { factor: number; length: number; value: Float32Array } | null = null;

  constructor(head: SeriesHead) {
    this.head = head;
  }

  /** Append the points from `start`, `count` of them. */
  append(points: Points, start: number, count: number): void {
    const end = Math.min(start + count, points.time.length, points.step.length, points.value.length);
    const added = end - start;
    if (added <= 0) return;
    this.#room(added);
    this.time.set(points.time.subarray(start, end), this.length);
    this.step.set(points.step.subarray(start, end), this.length);
    this.value.set(points.value.subarray(start, end), this.length);
    this.length += added;
  }

  /** Where this curve lies: by step, or by time where it has no steps. */
  get x(): Float64Array {
    return this.head.x === "step" ? this.step : this.time;
  }

  /** The values, smoothed by an exponential mean that is not drawn to its start; gaps stay gaps. */
  smoothed(factor: number): Float32Array {
    if (factor <= 0) return this.value;
    if (this.#smooth?.factor === factor && this.#smooth.length === this.length) return this.#smooth.value;
    const value = new Float32Array(this.length);
    let mean = 0;
    let weight = 0;
    for (let index = 0; index < this.length; index++) {
      const raw = this.value[index]!;
      if (Number.isFinite(raw)) {
        mean = factor * mean + (1 - factor) * raw;
        weight = factor * weight + (1 - factor);
      }
      value[index] = Number.isFinite(raw) ? mean / weight : NaN;
    }
    this.#smooth = { factor, length: this.length, value };
    return value;
  }

  /** Return the point whose time (or step) is nearest, -1 where there is none. */
  nearest(at: number, by: Float64Array = this.time): number {
    let low = 0;
    let high = this.length - 1;
    if (high < 0 || !Number.isFinite(at)) return -1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (by[middle]! < at) low = middle + 1;
      else high = middle;
    }
    return low > 0 && at - by[low - 1]! <= by[low]! - at ? low - 1 : low;
  }

  /** The last value that is known, NaN where none is. */
  get last(): number {
    for (let index = this.length - 1; index >= 0; index--) {
      if (Number.isFinite(this.value[index])) return this.value[index]!;
    }
    return NaN;
  }

  #room(added: number): void {
    const needed = this.length + added;
    if (needed > KEEP * 1.25) {
      const gone = Math.max(0, Math.min(this.length, needed - KEEP));
      for (const part of [this.time, this.step, this.value]) part.copyWithin(0, gone, this.length);
      this.length -= gone;
      this.#smooth = null;
    }
    if (this.length + added <= this.time.length) return;
    const size = Math.max(this.time.length * 2, this.length + added);
    this.time = grown(this.time, new Float64Array(size));
    this.step = grown(this.step, new Float64Array(size));
    this.value = grown(this.value, new Float32Array(size));
  }
}

function grown<T extends Float64Array | Float32Array>(old: T, larger: T): T {
  larger.set(old);
  return larger;
}
