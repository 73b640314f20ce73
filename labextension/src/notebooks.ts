/** Cells for the notebook that is open, and notebooks that are new. */

import type { ISessionContext } from "@jupyterlab/apputils";
import { PathExt } from "@jupyterlab/coreutils";
import { type INotebookTracker, NotebookActions, type NotebookPanel } from "@jupyterlab/notebook";
import type { Kernel as Kernels, ServiceManager } from "@jupyterlab/services";
import type { CommandRegistry } from "@lumino/commands";
import type { JSONObject } from "@lumino/coreutils";

import { LOAD } from "./lines";
import { type Kernel, notebook, type Part } from "./tour";

const ASK_MS = 1500;
const KNOWS = "'deploy' in get_ipython().magics_manager.magics['line']";
const BROWSER = "filebrowser:open-path";

export class Notebooks {
  readonly #tracker: INotebookTracker | null;
  readonly #services: ServiceManager.IManager;
  readonly #commands: CommandRegistry;

  constructor(tracker: INotebookTracker | null, services: ServiceManager.IManager, commands: CommandRegistry) {
    this.#tracker = tracker;
    this.#services = services;
    this.#commands = commands;
  }

  get current(): NotebookPanel | null {
    return this.#tracker?.currentWidget ?? null;
  }

  /** Put a line into a new cell below the current one, with what it needs above it, and run it. */
  async insert(panel: NotebookPanel, line: string): Promise<void> {
    const { content, sessionContext, context } = panel;
    await context.ready;
    const isLoaded = (await knows(sessionContext)) ?? mentions(panel);
    NotebookActions.insertBelow(content);
    const cell = content.activeCell;
    if (!cell) return;
    cell.model.sharedModel.setSource(isLoaded ? line : `${LOAD}\n${line}`);
    content.deselectAll();
    void NotebookActions.run(content, sessionContext);
    await content.scrollToCell(cell, "start").catch(() => undefined);
  }

  /** Write a new notebook and open it; where a front end shows it here, run it. Returns its path. */
  async create(parts: readonly Part[], folder: string, name: string, run: boolean): Promise<string> {
    const { contents } = this.#services;
    const made = await contents.newUntitled({ type: "notebook", path: folder });
    const content = notebook(parts, await this.#kernel()) as JSONObject;
    await contents.save(made.path, { type: "notebook", format: "json", content });
    const path = name ? await this.#renamed(made.path, name) : made.path;
    const opened = (await this.#commands.execute("docmanager:open", { path, factory: "Notebook" })) as unknown;
    const panel = isPanel(opened) ? opened : null;
    if (run && panel) await runAll(panel);
    return path;
  }

  async #renamed(path: string, name: string): Promise<string> {
    const to = PathExt.join(PathExt.dirname(path), name);
    try {
      return (await this.#services.contents.rename(path, to)).path;
    } catch {
      return path; // there is one already: the new one keeps the name it has
    }
  }

  async #kernel(): Promise<Kernel | null> {
    await this.#services.kernelspecs.ready;
    const specs = this.#services.kernelspecs.specs;
    if (!specs) return null;
    const all = Object.values(specs.kernelspecs).filter((spec) => spec !== undefined);
    const isPython = (language: string): boolean => language.toLowerCase() === "python";
    const chosen = all.find((spec) => spec.name === specs.default && isPython(spec.language));
    const spec = chosen ?? all.find(({ language }) => isPython(language));
    return spec ? { name: spec.name, display_name: spec.display_name, language: spec.language } : null;
  }
}

/** Where a new notebook goes: beside the one that is open, else where the file browser is. */
export function folderOf(panel: NotebookPanel | null, browser: string | undefined): string {
  return browser ?? (panel ? PathExt.dirname(panel.context.path) : "");
}

export { BROWSER };

function isPanel(value: unknown): value is NotebookPanel {
  return typeof value === "object" && value !== null && "sessionContext" in value && "content" in value;
}

async function runAll(panel: NotebookPanel): Promise<void> {
  await panel.context.ready;
  await panel.sessionContext.ready;
  if (panel.sessionContext.session?.kernel) await NotebookActions.runAll(panel.content, panel.sessionContext);
}

/** Ask the kernel whether it knows `%deploy`; null where it does not say so soon. */
async function knows(context: ISessionContext): Promise<boolean | null> {
  const kernel: Kernels.IKernelConnection | null | undefined = context.session?.kernel;
  if (!kernel || kernel.status === "busy") return null;
  const asked = kernel.requestExecute({
    code: "",
    silent: true,
    store_history: false,
    user_expressions: { known: KNOWS },
  });
  const late = new Promise<null>((done) => setTimeout(() => done(null), ASK_MS));
  const reply = await Promise.race([asked.done.catch(() => null), late]);
  if (reply?.content.status !== "ok") return null;
  const known = reply.content.user_expressions["known"] as { data?: Record<string, unknown> } | undefined;
  const text = known?.data?.["text/plain"];
  return text === "True" ? true : text === "False" ? false : null;
}

function mentions(panel: NotebookPanel): boolean {
  const cells = panel.content.model?.cells;
  if (!cells) return false;
  return Array.from(cells).some((cell) =>
    /^\s*%(re)?load_ext\s+jupyter_gpudeploy\b/m.test(cell.sharedModel.getSource()),
  );
}
