/** The commands, as the palette, the launcher, the menu and the panel name them. */

import {
  Dialog,
  type ICommandPalette,
  InputDialog,
  MainAreaWidget,
  Notification,
  showDialog,
} from "@jupyterlab/apputils";
import type { JupyterFrontEnd } from "@jupyterlab/application";
import type { IDefaultFileBrowser } from "@jupyterlab/filebrowser";
import type { ILauncher } from "@jupyterlab/launcher";
import type { TranslationBundle } from "@jupyterlab/translation";
import { type LabIcon, listIcon, notebookIcon, tableRowsIcon } from "@jupyterlab/ui-components";
import { Widget } from "@lumino/widgets";

import type { Actions } from "./actions";
import { type Api, ApiError, type Run } from "./api";
import { h } from "./dom";
import type { Feed } from "./feed";
import { deployIcon } from "./icons";
import { line, LOAD, wizardLine } from "./lines";
import { LogView } from "./logs";
import { folderOf, type Notebooks } from "./notebooks";
import { ResultsView } from "./results";
import { type Part, TOUR } from "./tour";

export const IDS = {
  wizard: "gpudeploy:wizard",
  attach: "gpudeploy:attach",
  examples: "gpudeploy:examples",
  panel: "gpudeploy:show-panel",
  clean: "gpudeploy:clean",
} as const;
const CATEGORY = "Deployments";

export interface Around {
  readonly app: JupyterFrontEnd;
  readonly api: Api;
  readonly feed: Feed;
  readonly notebooks: Notebooks;
  readonly browser: IDefaultFileBrowser | null;
  readonly trans: TranslationBundle;
  /** The default backend of the settings, empty for the package's own. */
  backend(): string;
  panel(): Widget;
}

/** A view with a life: shown, it looks; hidden, it rests. */
interface View {
  readonly element: HTMLElement;
  open(): void;
  close(): void;
}

class Tab extends Widget {
  readonly #view: View;

  constructor(view: View) {
    super();
    this.#view = view;
    this.addClass("gdp-tab");
    this.node.append(view.element);
  }

  protected override onAfterShow(): void {
    this.#view.open();
  }

  protected override onAfterAttach(): void {
    if (this.isVisible) this.#view.open();
  }

  protected override onBeforeHide(): void {
    this.#view.close();
  }

  protected override onBeforeDetach(): void {
    this.#view.close();
  }
}

/** What a person can do, done with dialogs, tabs and cells. */
export class Doing implements Actions {
  readonly #around: Around;

  constructor(around: Around) {
    this.#around = around;
  }

  wizard(isNew = false, folder?: string): void {
    const text = wizardLine(this.#around.backend());
    const current = isNew ? null : this.#around.notebooks.current;
    const parts: Part[] = [{ code: LOAD }, { code: text }];
    this.#try(current ? this.#around.notebooks.insert(current, text) : this.#create(parts, "", true, folder));
  }

  examples(): void {
    this.#try(this.#create(TOUR, "gpudeploy-tour.ipynb", false));
  }

  watch(run: Run): void {
    this.#insert("watch", run);
  }

  attach(run: Run): void {
    this.#insert("attach", run);
  }

  async chooseAndAttach(): Promise<void> {
    const { runs } = await this.#around.api.runs();
    if (!runs.length) {
      await this.#tell("Nothing to attach to", "Nothing was started yet.");
      return;
    }
    const items = runs.map((run) => `${run.name} · ${run.state} · ${run.place}`);
    const { trans } = this.#around;
    const chosen = await InputDialog.getItem({ title: trans.__("Attach to a run"), label: trans.__("Run"), items });
    const run = chosen.value === null ? undefined : runs[items.indexOf(chosen.value)];
    if (chosen.button.accept && run) this.attach(run);
  }

  logs(run: Run): void {
    const view = new LogView(this.#around.api, run.id, run.name);
    this.#tab(`logs-${run.id}`, `Logs: ${run.name}`, listIcon, () => view);
  }

  results(run: Run): void {
    const view = new ResultsView(this.#around.api, run.id, run.name);
    const tab = { element: view.element, open: () => void view.read(), close: () => undefined };
    this.#tab(`results-${run.id}`, `Results: ${run.name}`, tableRowsIcon, () => tab);
  }

  stop(run: Run): void {
    this.#try(this.#stop(run));
  }

  clean(): void {
    this.#try(this.#clean());
  }

  #try(work: Promise<unknown>): void {
    work.catch((error: unknown) => {
      const hint = error instanceof ApiError ? error.hint : "";
      const message = error instanceof Error ? error.message : String(error);
      Notification.error([message, hint].filter(Boolean).join("; "), { autoClose: 10_000 });
    });
  }

  async #stop(run: Run): Promise<void> {
    const body = run.stop_costs || "What it does is ended.";
    if (await this.#sure(`Stop ${run.name}?`, body, "Keep running", "Stop the run")) {
      await this.#around.api.stop(run.id);
      Notification.info(`${run.name} is being stopped`, { autoClose: 4000 });
    }
  }

  async #clean(): Promise<void> {
    const runs = (await this.#around.api.runs()).runs.filter((run) => run.can_clean);
    if (!runs.length) return this.#tell("Nothing to clean", "No run of yours has ended.");
    const names = runs.slice(0, 8).map(({ name }) => name);
    const more = runs.length > names.length ? ` and ${runs.length - names.length} more` : "";
    const noun = runs.length === 1 ? "run" : "runs";
    const body = `Their logs, metrics and outputs are deleted, for good: ${names.join(", ")}${more}.`;
    if (!(await this.#sure(`Delete ${runs.length} finished ${noun}?`, body, "Keep them", "Delete"))) return;
    const { cleaned, kept } = await this.#around.api.clean(runs.map(({ id }) => id));
    const why = kept.map(({ reason }) => reason).join("; ");
    const said = `${cleaned.length} deleted${kept.length ? `, ${kept.length} kept: ${why}` : ""}`;
    if (kept.length) Notification.warning(said);
    else Notification.info(said, { autoClose: 4000 });
  }

  async #sure(title: string, body: string, no: string, yes: string): Promise<boolean> {
    const text = new Widget({ node: h("p", { class: "gdp-question" }, body) });
    const buttons = [Dialog.cancelButton({ label: no }), Dialog.warnButton({ label: yes })];
    return (await showDialog({ title, body: text, buttons, defaultButton: 0 })).button.accept;
  }

  async #tell(title: string, body: string): Promise<void> {
    const text = new Widget({ node: h("p", { class: "gdp-question" }, body) });
    await showDialog({ title, body: text, buttons: [Dialog.okButton()] });
  }

  #insert(verb: string, run: Run): void {
    const text = line(verb, run);
    const current = this.#around.notebooks.current;
    if (!text) {
      this.#try(
        this.#tell("This name cannot be written into a cell", `The run is called ${JSON.stringify(run.name)}.`),
      );
    } else if (current) {
      this.#around.app.shell.activateById(current.id);
      this.#try(this.#around.notebooks.insert(current, text));
    } else {
      const way = `Open a notebook, then choose this again; or write into any cell: ${LOAD} and below it ${text}`;
      this.#try(this.#tell("No notebook is open", way));
    }
  }

  #create(parts: readonly Part[], name: string, run: boolean, folder?: string): Promise<string> {
    const { notebooks, browser } = this.#around;
    return notebooks.create(parts, folder ?? folderOf(notebooks.current, browser?.model.path), name, run);
  }

  #tab(id: string, title: string, icon: LabIcon, make: () => View): void {
    const { shell } = this.#around.app;
    const full = `gpudeploy-${id}`;
    const open = [...shell.widgets("main")].find((widget) => widget.id === full);
    if (!open) {
      const tab = new MainAreaWidget({ content: new Tab(make()) });
      tab.id = full;
      tab.title.label = title;
      tab.title.icon = icon;
      tab.title.closable = true;
      shell.add(tab, "main");
    }
    shell.activateById(full);
  }
}

/** Bring the commands in, and what offers them. */
export function addCommands(
  around: Around,
  doing: Doing,
  palette: ICommandPalette | null,
  launcher: ILauncher | null,
): void {
  const { app, trans } = around;
  const say = (error: unknown): void => {
    Notification.error(error instanceof Error ? error.message : String(error), { autoClose: 10_000 });
  };
  app.commands.addCommand(IDS.wizard, {
    label: (args) => (args["isPalette"] ? trans.__("New Deployment (Wizard)") : trans.__("New Deployment")),
    caption: trans.__("A form that writes a %%deploy cell; it starts nothing"),
    icon: deployIcon,
    execute: (args) => {
      const folder = typeof args["cwd"] === "string" ? args["cwd"] : undefined;
      doing.wizard(args["isLauncher"] === true, folder);
    },
  });
  app.commands.addCommand(IDS.attach, {
    label: trans.__("Attach to a Run…"),
    caption: trans.__("Show a run in the notebook, and have its handle there"),
    execute: () => doing.chooseAndAttach().catch(say),
  });
  app.commands.addCommand(IDS.examples, {
    label: trans.__("Open a Notebook of Examples"),
    caption: trans.__("A new notebook: a sweep and a server, on this machine, without a GPU"),
    icon: notebookIcon,
    execute: () => doing.examples(),
  });
  app.commands.addCommand(IDS.clean, {
    label: trans.__("Delete Finished Runs…"),
    caption: trans.__("Delete logs, metrics and outputs of runs that have ended; it asks first"),
    execute: () => doing.clean(),
  });
  app.commands.addCommand(IDS.panel, {
    label: trans.__("Show Deployments"),
    caption: trans.__("The panel of everything that runs"),
    execute: () => {
      const panel = around.panel();
      app.shell.activateById(panel.id);
      panel.node.querySelector<HTMLElement>("button, summary")?.focus();
    },
  });
  for (const command of Object.values(IDS)) {
    palette?.addItem({ command, category: CATEGORY, args: { isPalette: true } });
  }
  launcher?.add({ command: IDS.wizard, category: CATEGORY, rank: 1, args: { isLauncher: true } });
  launcher?.add({ command: IDS.examples, category: CATEGORY, rank: 2 });
}
