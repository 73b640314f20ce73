/** The colours of trials and replicas: the same as in the package's other pictures (palette.py), seen on white and black. */

export const COLOURS = [
  "#3b82f6",
  "#f97316",
  "#22a565",
  "#d946a8",
  "#8b5cf6",
  "#c59a12",
  "#0ea5a5",
  "#e5484d",
  "#7c8798",
  "#84a50e",
] as const;

const DASHES: readonly (readonly number[])[] = [[], [7, 3.5], [2, 3.5]];

export function colour(task: number | null): string {
  return COLOURS[Math.abs(task ?? 0) % COLOURS.length]!;
}

/** How the line of a task is dashed, so that those that share a colour differ. */
export function dash(task: number | null): readonly number[] {
  return DASHES[Math.floor(Math.abs(task ?? 0) / COLOURS.length) % DASHES.length]!;
}
