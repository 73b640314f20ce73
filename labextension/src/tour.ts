/** Notebooks that are written for a person: an empty one for the form, and the tour of the README with a server. */

import { LOAD } from "./lines";

export interface Kernel {
  readonly name: string;
  readonly display_name: string;
  readonly language: string;
}

export type Part = { readonly text: string } | { readonly code: string };

const SWEEP = `%%deploy parabola -o run
metric: {name: loss, goal: minimize}
parameters:
  x: [-2, 0, 1, 3]
parallelism: 2
---
x = 0
print(f"loss={(x - 1) ** 2}")`;

const SERVER = `%%deploy hello -o server
serve: fastapi
---
from fastapi import FastAPI

app = FastAPI()


@app.get("/")
def root():
    return {"said": "hello"}`;

export const TOUR: readonly Part[] = [
  { text: "# jupyter_gpudeploy in ten lines\n\nEverything here runs on this machine and needs no GPU." },
  { code: LOAD },
  {
    text: "Above the line `---` stands what to run, below it the program. Parameters are plain variables, what is printed as `name=value` becomes a metric. The cell returns at once and shows a card that follows the run.",
  },
  { code: SWEEP },
  { code: 'run.wait()\nrun.trials()[["x", "loss", "state"]]' },
  { code: 'run.best()["parameters"]' },
  { code: "%deploy ls" },
  {
    text: 'A server, kept up until it is stopped. It needs FastAPI: `pip install "jupyter-gpudeploy[serve]"`.',
  },
  { code: SERVER },
  { code: 'server.wait()\nserver.request("/").json()' },
  { code: "%deploy stop hello" },
];

/** Return an `.ipynb`, as nbformat 4.5 wants it. */
export function notebook(parts: readonly Part[], kernel: Kernel | null): Record<string, unknown> {
  return {
    cells: parts.map((part, at) =>
      "code" in part
        ? { cell_type: "code", id: `part-${at}`, metadata: {}, source: part.code, outputs: [], execution_count: null }
        : { cell_type: "markdown", id: `part-${at}`, metadata: {}, source: part.text },
    ),
    metadata: kernel ? { kernelspec: { ...kernel }, language_info: { name: kernel.language } } : {},
    nbformat: 4,
    nbformat_minor: 5,
  };
}
