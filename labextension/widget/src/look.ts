/** How a person looks at the charts of one view: what is hidden, marked, zoomed. All charts of the view share it. */

export interface Moment {
  time: number;
  /** The chart that is pointed at; null when a moment was chosen elsewhere. */
  from: string | null;
}

export class Look {
  hidden = new Set<number>();
  highlight: number | null = null;
  moment: Moment | null = null;
  /** A moment that was clicked stays marked. */
  pinned: number | null = null;
  timeZoom: [number, number] | null = null;
  stepZoom: [number, number] | null = null;
  isLog = false;
  smoothing = 0;
  readonly #changed: (part: "charts" | "marks") => void;

  constructor(changed: (part: "charts" | "marks") => void) {
    this.#changed = changed;
  }

  point(moment: Moment | null): void {
    if (moment === null && this.moment === null) return;
    this.moment = moment;
    this.#changed("marks");
  }

  pin(time: number | null): void {
    this.pinned = time;
    this.#changed("marks");
  }

  emphasize(task: number | null): void {
    if (this.highlight === task) return;
    this.highlight = task;
    this.#changed("charts");
  }

  toggle(task: number): void {
    if (!this.hidden.delete(task)) this.hidden.add(task);
    this.#changed("charts");
  }

  /** Show this task alone, or all again when it is alone already. */
  solo(task: number, all: readonly number[]): void {
    const isAlone = !this.hidden.has(task) && all.every((each) => each === task || this.hidden.has(each));
    this.hidden = new Set(isAlone ? [] : all.filter((each) => each !== task));
    this.#changed("charts");
  }

  zoom(x: "time" | "step", range: [number, number] | null): void {
    if (x === "time") this.timeZoom = range;
    else this.stepZoom = range;
    this.#changed("charts");
  }

  scale(isLog: boolean): void {
    this.isLog = isLog;
    this.#changed("charts");
  }

  smooth(factor: number): void {
    this.smoothing = factor;
    this.#changed("charts");
  }
}
