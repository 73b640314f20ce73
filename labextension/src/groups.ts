/** In which order runs are shown. */

import type { Run } from "./api";

export interface Group {
  readonly name: string;
  readonly title: string;
  readonly runs: readonly Run[];
}

const TITLES = {
  ready: "Ready servers",
  running: "Running",
  waiting: "Waiting",
  failed: "Failed or lost",
  finished: "Finished",
} as const;

type Name = keyof typeof TITLES;

function nameOf(run: Run): Name {
  if (run.state === "failed" || run.state === "lost") return "failed";
  if (run.is_over) return "finished";
  if (run.state === "ready") return "ready";
  return run.state === "waiting" || run.state === "starting" || run.state === "paused" ? "waiting" : "running";
}

/** Return the groups that have runs: what is alive first; in each the newest first. */
export function grouped(runs: readonly Run[]): Group[] {
  const found = new Map<Name, Run[]>((Object.keys(TITLES) as Name[]).map((name) => [name, []]));
  for (const run of runs) found.get(nameOf(run))?.push(run);
  const newest = (run: Run): number => (run.is_over ? run.ended : null) ?? run.created ?? 0;
  return [...found]
    .filter(([, some]) => some.length > 0)
    .map(([name, some]) => ({
      name,
      title: TITLES[name],
      runs: some.sort((one, other) => newest(other) - newest(one) || (one.id < other.id ? -1 : 1)),
    }));
}
