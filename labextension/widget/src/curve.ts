/** One line of a chart on its canvas, and the range that a set of lines covers. */

import type { Series } from "./series";
import type { Colours } from "./theme";

export interface Curve {
  series: Series;
  task: number | null;
  label: string;
  colour: string;
  dash: readonly number[];
  width: number;
  alpha: number;
  isBest: boolean;
}

/** What a chart shows. */
export interface Scene {
  curves: readonly Curve[];
  x: [number, number];
  isLog: boolean;
  smoothing: number;
  colours: Colours;
}

/** Where values lie on a canvas. */
export interface Frame {
  left: number;
  top: number;
  width: number;
  height: number;
  x: [number, number];
  y: [number, number];
  isLog: boolean;
  ratio: number;
}

export function xPlace(frame: Frame, x: number): number {
  return frame.left + ((x - frame.x[0]) / (frame.x[1] - frame.x[0])) * frame.width;
}

export function yPlace(frame: Frame, value: number): number {
  const [low, high] = frame.isLog ? [Math.log10(frame.y[0]), Math.log10(frame.y[1])] : frame.y;
  const at = frame.isLog ? Math.log10(value) : value;
  return frame.top + frame.height - ((at - low) / (high - low)) * frame.height;
}

/** Return the first and last index to be drawn for this range of x, one beyond it on each side. */
function within(x: Float64Array, length: number, [low, high]: [number, number]): [number, number] {
  let first = 0;
  let last = length - 1;
  while (first < last && x[first + 1]! < low) first++;
  while (last > first && x[last - 1]! > high) last--;
  return [first, last];
}

/** Draw a curve. Of many points in one pixel only the lowest and the highest; a lonely point is a dot. */
export function drawCurve(context: CanvasRenderingContext2D, frame: Frame, curve: Curve, smoothing: number): void {
  const { series } = curve;
  if (!series.length) return;
  const x = series.x;
  const values = series.smoothed(smoothing);
  const [first, last] = within(x, series.length, frame.x);
  const isDense = last - first > 3 * (frame.width / frame.ratio);
  context.strokeStyle = context.fillStyle = curve.colour;
  context.globalAlpha = curve.alpha;
  context.lineWidth = curve.width * frame.ratio;
  context.setLineDash(curve.dash.map((part) => part * frame.ratio));
  context.beginPath();
  const dots: [number, number][] = [];
  let [isDown, count, lastX, lastY] = [false, 0, 0, 0];
  let column = { place: NaN, low: NaN, high: NaN };
  const flush = (): void => {
    if (Number.isNaN(column.place)) return;
    context.lineTo(column.place, column.low);
    context.lineTo(column.place, column.high);
    column = { place: NaN, low: NaN, high: NaN };
  };
  for (let index = first; index <= last; index++) {
    const value = values[index]!;
    const isKnown = Number.isFinite(value) && (!frame.isLog || value > 0) && Number.isFinite(x[index]!);
    if (!isKnown) {
      flush();
      if (count === 1) dots.push([lastX, lastY]);
      isDown = false;
      count = 0;
      continue;
    }
    [lastX, lastY] = [xPlace(frame, x[index]!), yPlace(frame, value)];
    count++;
    if (!isDown) {
      context.moveTo(lastX, lastY);
      isDown = true;
    } else if (!isDense) {
      context.lineTo(lastX, lastY);
    } else {
      const place = Math.round(lastX);
      if (place !== column.place) flush();
      column = {
        place,
        low: Number.isNaN(column.low) ? lastY : Math.max(column.low, lastY),
        high: Number.isNaN(column.high) ? lastY : Math.min(column.high, lastY),
      };
    }
  }
  flush();
  if (count === 1) dots.push([lastX, lastY]);
  context.stroke();
  context.setLineDash([]);
  for (const [left, top] of dots) drawDot(context, left, top, 2.2 * frame.ratio);
  context.globalAlpha = 1;
}

export function drawDot(context: CanvasRenderingContext2D, left: number, top: number, radius: number): void {
  context.beginPath();
  context.arc(left, top, radius, 0, 2 * Math.PI);
  context.fill();
}

/** Mark with a cross where a value is no number: where the curve was last seen. */
export function drawGaps(context: CanvasRenderingContext2D, frame: Frame, curve: Curve, smoothing: number): void {
  const values = curve.series.smoothed(smoothing);
  const x = curve.series.x;
  const arm = 3 * frame.ratio;
  context.strokeStyle = curve.colour;
  context.lineWidth = 1.5 * frame.ratio;
  context.beginPath();
  let last = NaN;
  let isMarked = false;
  for (let index = 0; index < curve.series.length; index++) {
    const value = values[index]!;
    if (Number.isFinite(value)) {
      [last, isMarked] = [value, false];
      continue;
    }
    if (isMarked || (frame.isLog && last <= 0)) continue;
    isMarked = true;
    const left = xPlace(frame, x[index]!);
    const top = Number.isFinite(last) ? yPlace(frame, last) : frame.top + frame.height - 2 * arm;
    context.moveTo(left - arm, top - arm);
    context.lineTo(left + arm, top + arm);
    context.moveTo(left - arm, top + arm);
    context.lineTo(left + arm, top - arm);
  }
  context.stroke();
}

/** Return the range of x that these curves cover, null for nothing. */
export function xExtent(curves: Iterable<Curve>): [number, number] | null {
  let [low, high] = [Infinity, -Infinity];
  for (const { series } of curves) {
    if (!series.length) continue;
    low = Math.min(low, series.x[0]!);
    high = Math.max(high, series.x[series.length - 1]!);
  }
  return low <= high && Number.isFinite(low) && Number.isFinite(high) ? [low, high] : null;
}

/** Return the range of the values of these curves within a range of x, null for nothing. */
export function yExtent(
  curves: Iterable<Curve>,
  range: [number, number],
  smoothing: number,
  isLog: boolean,
): [number, number] | null {
  let [low, high] = [Infinity, -Infinity];
  for (const { series } of curves) {
    if (!series.length) continue;
    const values = series.smoothed(smoothing);
    const [first, last] = within(series.x, series.length, range);
    for (let index = first; index <= last; index++) {
      const value = values[index]!;
      if (!Number.isFinite(value) || (isLog && value <= 0)) continue;
      if (value < low) low = value;
      if (value > high) high = value;
    }
  }
  return low <= high ? [low, high] : null;
}

/** The point that a curve had at this time; -1 before it began and long after it ended. */
export function pointAt({ series }: Curve, time: number): number {
  const index = series.nearest(time);
  if (index < 0) return -1;
  const [first, last] = [series.time[0]!, series.time[series.length - 1]!];
  const slack = Math.max(2, series.length > 1 ? (2 * (last - first)) / (series.length - 1) : 0);
  return time < first - slack || time > last + slack ? -1 : index;
}
