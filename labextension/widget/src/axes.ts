/** The look of a chart's axes, as options of uPlot. */

import type uPlot from "uplot";

import { type Scene, yExtent } from "./curve";
import { clock, number, size } from "./format";
import type { Colours } from "./theme";

/* eslint-disable @typescript-eslint/no-unsafe-enum-assignment -- uPlot declares its enums and does not export them */
export const LINEAR = 1 as uPlot.Scale.Distr;
export const LOGARITHMIC = 3 as uPlot.Scale.Distr;
/* eslint-enable @typescript-eslint/no-unsafe-enum-assignment */
const FULL = new Set(["%"]);
const FROM_ZERO = new Set(["%", "B", "W"]);
/** Where the axis of a size may have its lines: 1, 2, 4 ... 512 of each unit. */
const BYTES = Array.from({ length: 60 }, (_each, power) => 2 ** power);

type Said = Pick<uPlot.Options, "padding" | "legend" | "cursor" | "axes" | "series">;

export function options(x: "time" | "step", unit: string, colours: Colours): Said {
  const axis: uPlot.Axis = {
    stroke: colours.quiet,
    font: `11px ${colours.font}`,
    grid: { stroke: colours.grid, width: 1 },
    ticks: { show: false },
  };
  const say = (value: number): string => (unit === "B" ? size(value) : number(value));
  return {
    padding: [8, 12, 0, 0],
    legend: { show: false },
    cursor: { x: false, y: false, points: { show: false }, drag: { x: true, y: false, setScale: false, dist: 8 } },
    axes: [
      {
        ...axis,
        space: 64,
        size: 26,
        values: (_plot, splits, _axis, _space, step) =>
          splits.map((at) => (x === "time" ? when(at, step) : number(at))),
      },
      {
        ...axis,
        space: 32,
        size: 56,
        gap: 6,
        ...(unit === "B" ? { incrs: BYTES } : {}),
        // of a logarithmic axis some lines have no number
        values: (_plot, splits: (number | null)[]) => splits.map((at) => (at === null ? "" : say(at))),
      },
    ],
    series: [{}, { paths: () => null, points: { show: false } }],
  };
}

function when(at: number, step: number): string {
  if (step >= 86_400) return new Date(at * 1000).toLocaleDateString(undefined, { month: "short", day: "numeric" });
  return step < 60 ? clock(at) : clock(at).slice(0, 5);
}

/** Return what the y axis shows of these curves. */
export function yRange(scene: Scene, unit: string): [number, number] {
  const found = yExtent(scene.curves, scene.x, scene.smoothing, scene.isLog);
  if (!found) return scene.isLog ? [0.1, 1] : [0, 1];
  const [low, high] = found;
  if (scene.isLog) return low === high ? [low / 2, high * 2] : [low / 1.15, high * 1.15];
  if (FROM_ZERO.has(unit)) return [0, Math.max(high * 1.08, FULL.has(unit) ? 100 : 0) || 1];
  const room = (high - low || Math.abs(high) || 1) * 0.06;
  return [low - room, high + room];
}
