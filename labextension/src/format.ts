/** Numbers as a person reads them. */

import type { Run } from "./api";

const MINUTE = 60;
const HOUR = 3600;
const DAY = 86_400;

/** Return a time span: `8 s`, `3 min`, `2 h 5 min`, `4 d`. */
export function span(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < MINUTE) return `${whole} s`;
  if (whole < HOUR) return `${Math.floor(whole / MINUTE)} min`;
  if (whole < 10 * HOUR) return `${Math.floor(whole / HOUR)} h ${Math.floor((whole % HOUR) / MINUTE)} min`;
  return whole < 2 * DAY ? `${Math.floor(whole / HOUR)} h` : `${Math.floor(whole / DAY)} d`;
}

export function size(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${value >= 100 || unit === 0 ? value.toFixed(0) : value.toFixed(1)} ${units[unit] ?? ""}`;
}

export function number(value: number): string {
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(5)));
}

/** Return what of a run a person sees first: how long it runs, or when it ended. */
export function age(run: Run, now: number): string {
  if (run.is_over) return run.ended === null ? "" : `${span(now - run.ended)} ago`;
  const since = run.started ?? run.created;
  return since === null ? "" : span(now - since);
}

/** Return what it uses now: GPUs where it holds some, else processor time; nothing where nothing is known. */
export function use(run: Run): string {
  if (run.gpus) {
    const share = run.gpu_percent === null ? "" : ` ${Math.round(run.gpu_percent)}%`;
    return `${run.gpus} GPU${share}`;
  }
  const memory = run.memory_bytes === null ? "" : size(run.memory_bytes);
  const share = run.cpu_percent === null ? "" : `CPU ${Math.round(run.cpu_percent)}%`;
  return [share, memory].filter(Boolean).join(" · ");
}

export function cost(run: Run): string {
  if (run.cost === null) return "";
  return `${run.cost < 100 ? run.cost.toFixed(2) : run.cost.toFixed(0)}${run.currency ? ` ${run.currency}` : ""}`;
}

/** Return how far it is: `5 of 12`, with what is left. */
export function progress(run: Run): string {
  const { total, done, failed } = run.progress;
  const parts = [`${done} of ${total}`];
  if (failed) parts.push(`${failed} failed`);
  if (!run.is_over && run.remaining_s !== null) parts.push(`about ${span(run.remaining_s)} left`);
  return parts.join(" · ");
}
