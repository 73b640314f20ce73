/** The lines that are written into cells. A name is text from elsewhere, so it is written only where it is harmless. */

import type { Run } from "./api";

export const LOAD = "%load_ext jupyter_gpudeploy";
const WORD = /^[A-Za-z0-9][A-Za-z0-9._:@/-]*$/;

/** Return `%deploy VERB NAME`, with the place where it is not this machine; null for a name that is no word. */
export function line(verb: string, run: Pick<Run, "name" | "backend" | "place">): string | null {
  const words = [run.name];
  if (run.backend !== "local") {
    words.push("--backend", run.backend);
    const slash = run.place.lastIndexOf("/");
    if (slash > 0) words.push("--cluster", run.place.slice(0, slash), "--namespace", run.place.slice(slash + 1));
  }
  const isWord = (word: string, at: number): boolean => WORD.test(word) || (at > 0 && /^--[a-z]+$/.test(word));
  return words.every(isWord) ? `%deploy ${verb} ${words.join(" ")}` : null;
}

/** Return the line that opens the form; the backend is one of the settings. */
export function wizardLine(backend: string): string {
  return WORD.test(backend) ? `%deploy wizard --backend ${backend}` : "%deploy wizard";
}
