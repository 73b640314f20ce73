/** The lines of a log that a card holds: the newest, and older ones where a person asked for them. */

import type { Cursor, Line, Log } from "./protocol";

export const KEEP = 2000;
export const KEEP_PAGES = 20_000;

export class Row {
  /** Distinct for every line that was ever shown; what is drawn is found again by it. */
  readonly key: number;
  readonly task: number;
  readonly attempt: number;
  readonly number: number;
  time: number | null;
  level: string | null;
  text: string;
  cut: number;
  static #made = 0;

  constructor(line: Line) {
    this.key = ++Row.#made;
    [this.number, this.task, this.attempt, this.time, this.level, this.text, this.cut] = line;
  }

  /** Whether this is that line, which may say more by now. */
  isAt([number, task, attempt]: Line): boolean {
    return number > 0 && this.number === number && this.task === task && this.attempt === attempt;
  }
}

export class Lines {
  rows: Row[] = [];
  before: Cursor = null;
  hidden = 0;
  note = "";
  files: [number, string][] = [];
  /** How many lines were ever appended. */
  arrived = 0;
  /** Lines were let go at the top, so `before` does not lead to what lies above it. */
  isTorn = false;

  constructor(log?: Log) {
    if (!log) return;
    this.rows = log.lines.map((line) => new Row(line));
    this.before = log.before;
    this.hidden = log.hidden;
    this.note = log.note;
    this.files = log.files;
  }

  /** Append lines; one that was there unfinished is replaced. Rows that are let go make room. */
  append(lines: Line[]): void {
    for (const line of lines) {
      const old = this.#unfinished(line);
      if (old < 0) {
        this.rows.push(new Row(line));
        this.arrived++;
      } else {
        this.rows[old] = new Row(line);
      }
    }
    if (this.rows.length > KEEP * 1.2) {
      this.rows = this.rows.slice(-KEEP);
      this.isTorn = true;
    }
  }

  /** Put older lines above. */
  prepend(log: Log): void {
    if (this.rows.length > KEEP_PAGES) return;
    this.rows = [...log.lines.map((line) => new Row(line)), ...this.rows];
    this.before = log.before;
    this.note = log.note;
  }

  get canGoBack(): boolean {
    return this.before !== null && this.before !== undefined && this.rows.length <= KEEP_PAGES;
  }

  /** Return the row at or just after this time; the last one before it where there is none, -1 without times. */
  at(time: number): number {
    let found = -1;
    for (let index = 0; index < this.rows.length; index++) {
      const when = this.rows[index]!.time;
      if (when === null) continue;
      found = index;
      if (when >= time) break;
    }
    return found;
  }

  #unfinished(line: Line): number {
    for (let index = this.rows.length - 1; index >= Math.max(0, this.rows.length - 64); index--) {
      if (this.rows[index]!.isAt(line)) return index;
    }
    return -1;
  }
}

export interface Span {
  text: string;
  /** 0-15, one of a terminal's colours; -1 for none. */
  colour: number;
}

const START = 0xe000;
const END = 0xe001;

/** Split a text at our private colour marks. */
export function spans(text: string): Span[] {
  if (!text.includes("\ue000") && !text.includes("\ue001")) return [{ text, colour: -1 }];
  const made: Span[] = [];
  let colour = -1;
  let start = 0;
  const take = (end: number): void => {
    if (end > start) made.push({ text: text.slice(start, end), colour });
  };
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index);
    if (code !== START && code !== END) continue;
    take(index);
    if (code === START) {
      const letter = text.charCodeAt(index + 1) - 97;
      if (letter >= 0 && letter < 16) {
        colour = letter;
        index++;
      }
    } else {
      colour = -1;
    }
    start = index + 1;
  }
  take(text.length);
  return made;
}
