/** One chart: uPlot gives axes, scales and the selection of a range; the curves are drawn here, each with its own x. */

import uPlot from "uplot";

import { LINEAR, LOGARITHMIC, options, yRange } from "./axes";
import { type Curve, drawCurve, drawDot, drawGaps, type Frame, pointAt, xPlace, yPlace } from "./curve";
import { h, setAttribute, setText, show } from "./dom";
import { clock, number, quantity } from "./format";
import type { Look } from "./look";
import { drawTip } from "./tip";
import type { Scene } from "./curve";

export interface PlotActions {
  /** A moment was clicked. */
  pick: (time: number) => void;
}

const HEIGHT = 168;

export class Plot {
  readonly element: HTMLElement;
  readonly #name: string;
  readonly #unit: string;
  readonly #x: "time" | "step";
  readonly #look: Look;
  readonly #actions: PlotActions;
  readonly #host = h("div", { class: "gd-plot" });
  readonly #tip = h("div", { class: "gd-tip", "aria-hidden": "true", hidden: true });
  readonly #last = h("span", { class: "gd-chart-last" });
  #overlay: HTMLCanvasElement | null = null;
  #made: uPlot | null = null;
  #isLog = false;
  #fine = "";
  #scene: Scene | null = null;
  #pointer: { left: number; top: number } | null = null;

  constructor(name: string, title: string, unit: string, x: "time" | "step", look: Look, actions: PlotActions) {
    [this.#name, this.#unit, this.#x, this.#look, this.#actions] = [name, unit, x, look, actions];
    const told = unit && unit !== "B" ? ` · ${unit}` : "";
    const head = h(
      "div",
      { class: "gd-chart-head" },
      h("span", { class: "gd-chart-title", title }, title + told),
      this.#last,
    );
    this.#host.append(this.#tip);
    this.element = h("figure", { class: "gd-chart" }, head, this.#host);
    setAttribute(this.#host, "tabindex", "0");
    setAttribute(this.#host, "role", "slider");
    setAttribute(this.#host, "aria-label", `${title}: moment`);
    this.#host.addEventListener("keydown", (event) => this.#key(event));
    this.#host.addEventListener("blur", () => this.#leave());
  }

  destroy(): void {
    this.#made?.destroy();
    this.element.remove();
  }

  /** Draw the curves, unless there is no room yet: a hidden tab has none. */
  draw(scene: Scene): void {
    this.#scene = scene;
    const width = Math.floor(this.#host.clientWidth);
    if (width < 40) return;
    const fine = JSON.stringify(scene.colours);
    if (this.#made && (this.#isLog !== scene.isLog || this.#fine !== fine)) {
      this.#made.destroy();
      this.#made = null;
    }
    [this.#isLog, this.#fine] = [scene.isLog, fine];
    this.#made ??= this.#make(width, scene);
    if (this.#made.width !== width) this.#made.setSize({ width, height: HEIGHT });
    this.#made.setData([[...scene.x], [1, 1]], true);
    setText(this.#last, this.#summary());
    setAttribute(this.#host, "aria-valuemin", String(scene.x[0]));
    setAttribute(this.#host, "aria-valuemax", String(scene.x[1]));
    this.mark();
  }

  /** Draw what is marked: the line of the moment, and each curve's point of it. */
  mark(): void {
    const frame = this.#frame();
    const context = this.#overlay?.getContext("2d");
    if (!frame || !context || !this.#scene || !this.#overlay) return;
    const own = { ...frame, left: 0, top: 0 };
    context.clearRect(0, 0, this.#overlay.width, this.#overlay.height);
    const { moment, pinned } = this.#look;
    if (pinned !== null) this.#drawMoment(context, own, pinned, 0.45);
    if (moment) this.#drawMoment(context, own, moment.time, 0.9);
    show(this.#tip, moment?.from === this.#name && this.#pointer !== null);
    if (this.#pointer && moment?.from === this.#name) this.#tell(own, this.#pointer);
  }

  #drawMoment(context: CanvasRenderingContext2D, frame: Frame, time: number, alpha: number): void {
    const scene = this.#scene!;
    const isHere = this.#look.moment?.from === this.#name && this.#pointer !== null;
    context.globalAlpha = alpha;
    const line =
      this.#x === "time"
        ? xPlace(frame, time)
        : isHere && time === this.#look.moment?.time
          ? this.#pointer!.left * frame.ratio
          : NaN;
    if (line >= 0 && line <= frame.width) {
      context.strokeStyle = scene.colours.quiet;
      context.lineWidth = frame.ratio;
      context.setLineDash([3 * frame.ratio, 3 * frame.ratio]);
      context.beginPath();
      context.moveTo(Math.round(line) + 0.5, 0);
      context.lineTo(Math.round(line) + 0.5, frame.height);
      context.stroke();
      context.setLineDash([]);
    }
    for (const curve of scene.curves) {
      const index = pointAt(curve, time);
      if (index < 0) continue;
      const value = curve.series.smoothed(scene.smoothing)[index]!;
      if (!Number.isFinite(value) || (scene.isLog && value <= 0)) continue;
      const [left, top] = [xPlace(frame, curve.series.x[index]!), yPlace(frame, value)];
      if (left < 0 || left > frame.width) continue;
      context.fillStyle = scene.colours.surface;
      drawDot(context, left, top, 4.6 * frame.ratio);
      context.fillStyle = curve.colour;
      drawDot(context, left, top, 3.2 * frame.ratio);
    }
    context.globalAlpha = 1;
  }

  // --- what is pointed at

  #nearest(frame: Frame, at: { left: number; top: number }): { curve: Curve; index: number; far: number }[] {
    const x = frame.x[0] + ((at.left * frame.ratio) / frame.width) * (frame.x[1] - frame.x[0]);
    const found = [];
    for (const curve of this.#scene?.curves ?? []) {
      const index = curve.series.nearest(x, curve.series.x);
      if (index < 0) continue;
      const value = curve.series.smoothed(this.#scene!.smoothing)[index]!;
      const place = xPlace(frame, curve.series.x[index]!) / frame.ratio;
      const isBeside = x < curve.series.x[0]! || x > curve.series.x[curve.series.length - 1]!;
      const isFar = isBeside && Math.abs(place - at.left) > Math.max(24, frame.width / frame.ratio / 12);
      if (!Number.isFinite(value) || isFar) continue;
      const top = yPlace(frame, value) / frame.ratio;
      found.push({ curve, index, far: Math.hypot(place - at.left, top - at.top) });
    }
    return found.sort((one, other) => one.far - other.far);
  }

  #tell(frame: Frame, at: { left: number; top: number }): void {
    const near = this.#nearest(frame, at);
    const time = this.#look.moment?.time ?? NaN;
    const first = near[0];
    const step = this.#x === "step" && first ? `step ${number(first.curve.series.step[first.index]!)} · ` : "";
    const rows = near.map(({ curve, index }) => ({
      curve,
      value: quantity(curve.series.value[index]!, this.#unit),
    }));
    drawTip(this.#tip, step + clock(time), rows);
    const left = at.left + (this.#made?.over.offsetLeft ?? 0);
    const isRight = left > this.#host.clientWidth / 2;
    this.#tip.style.left = isRight ? "" : `${left + 12}px`;
    this.#tip.style.right = isRight ? `${this.#host.clientWidth - left + 12}px` : "";
    const said = [step + clock(time), ...rows.slice(0, 3).map(({ curve, value }) => `${curve.label}: ${value}`)];
    setAttribute(this.#host, "aria-valuetext", said.join(", "));
    setAttribute(this.#host, "aria-valuenow", String(time));
  }

  #point(at: { left: number; top: number }): void {
    const frame = this.#frame();
    if (!frame || !this.#scene) return;
    this.#pointer = at;
    const x = frame.x[0] + ((at.left * frame.ratio) / frame.width) * (frame.x[1] - frame.x[0]);
    const first = this.#x === "time" ? null : this.#nearest({ ...frame, left: 0, top: 0 }, at)[0];
    const time = this.#x === "time" ? x : first ? first.curve.series.time[first.index]! : NaN;
    this.#look.point(Number.isFinite(time) ? { time, from: this.#name } : null);
  }

  #leave(): void {
    this.#pointer = null;
    this.#look.point(null);
  }

  #key(event: KeyboardEvent): void {
    const room = this.#made?.over.clientWidth ?? 0;
    const at = this.#pointer ?? { left: room, top: HEIGHT / 3 };
    const moves: Record<string, number> = {
      ArrowLeft: at.left - 6,
      ArrowRight: at.left + 6,
      Home: 0,
      End: room,
      PageUp: at.left - room / 8,
      PageDown: at.left + room / 8,
    };
    const left = moves[event.key];
    if (left !== undefined) {
      this.#point({ left: Math.min(room, Math.max(0, left)), top: at.top });
    } else if (event.key === "Enter" || event.key === " ") {
      if (this.#look.moment) this.#actions.pick(this.#look.moment.time);
    } else if (event.key === "Escape") {
      this.#look.zoom(this.#x, null);
      this.#leave();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  // --- uPlot

  #frame(): Frame | null {
    const [plot, scene] = [this.#made, this.#scene];
    const [x, y] = [plot?.scales["x"], plot?.scales["y"]];
    if (!plot || !scene || x?.min == null || x.max == null || y?.min == null || y.max == null) return null;
    const { left, top, width, height } = plot.bbox;
    return { left, top, width, height, x: [x.min, x.max], y: [y.min, y.max], isLog: scene.isLog, ratio: uPlot.pxRatio };
  }

  #make(width: number, scene: Scene): uPlot {
    const made = new uPlot(
      {
        ...options(this.#x, this.#unit, scene.colours),
        width,
        height: HEIGHT,
        scales: {
          x: { time: this.#x === "time", range: () => this.#scene!.x },
          y: { distr: scene.isLog ? LOGARITHMIC : LINEAR, range: () => yRange(this.#scene!, this.#unit) },
        },
        hooks: {
          draw: [() => this.#paint()],
          setSize: [() => this.#cover()],
          setSelect: [(plot) => this.#select(plot)],
        },
      },
      [[...scene.x], [1, 1]],
      this.#host,
    );
    this.#made = made;
    this.#overlay = h("canvas", { class: "gd-marks" });
    made.over.append(this.#overlay);
    this.#cover();
    this.#listen(made.over);
    return made;
  }

  #listen(over: HTMLElement): void {
    let down: { x: number; y: number } | null = null;
    over.addEventListener("pointermove", (event) => {
      const box = over.getBoundingClientRect();
      this.#point({ left: event.clientX - box.left, top: event.clientY - box.top });
    });
    over.addEventListener("pointerleave", () => this.#leave());
    over.addEventListener("pointerdown", (event) => (down = { x: event.clientX, y: event.clientY }));
    over.addEventListener("click", (event) => {
      const isDrag = down && Math.hypot(event.clientX - down.x, event.clientY - down.y) > 6;
      if (!isDrag && this.#look.moment) this.#actions.pick(this.#look.moment.time);
    });
  }

  #cover(): void {
    if (!this.#overlay || !this.#made) return;
    const { width, height } = this.#made.bbox;
    [this.#overlay.width, this.#overlay.height] = [width, height];
  }

  #select(plot: uPlot): void {
    const { left, width } = plot.select;
    if (width < 8) return;
    const range: [number, number] = [plot.posToVal(left, "x"), plot.posToVal(left + width, "x")];
    plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    this.#look.zoom(this.#x, range);
  }

  #paint(): void {
    const frame = this.#frame();
    const [plot, scene] = [this.#made, this.#scene];
    if (!frame || !plot || !scene) return;
    const context = plot.ctx;
    context.save();
    context.beginPath();
    context.rect(frame.left, frame.top, frame.width, frame.height);
    context.clip();
    context.lineJoin = "round";
    for (const curve of scene.curves) {
      drawCurve(context, frame, curve, scene.smoothing);
      if (this.#name.startsWith("metric:")) drawGaps(context, frame, curve, scene.smoothing);
    }
    context.restore();
  }

  /** Beside the title: the value of the one curve, or of the one on top where curves are metrics. */
  #summary(): string {
    const top = this.#scene?.curves.at(-1);
    if (!top || (this.#scene!.curves.length > 1 && !top.isBest)) return "";
    const star = (this.#scene?.curves.length ?? 0) > 1 ? "★ " : "";
    return Number.isFinite(top.series.last) ? star + quantity(top.series.last, this.#unit) : "";
  }
}
