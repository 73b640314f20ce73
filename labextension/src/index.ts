/** The plugins. Whatever else a front end has is optional: the panel works in Notebook as in JupyterLab. */

import { ILabShell, ILayoutRestorer, type JupyterFrontEnd, type JupyterFrontEndPlugin } from "@jupyterlab/application";
import { ICommandPalette } from "@jupyterlab/apputils";
import { EditorExtensionRegistry, IEditorExtensionRegistry, IEditorLanguageRegistry } from "@jupyterlab/codemirror";
import { URLExt } from "@jupyterlab/coreutils";
import { IDefaultFileBrowser } from "@jupyterlab/filebrowser";
import { ILauncher } from "@jupyterlab/launcher";
import { INotebookTracker } from "@jupyterlab/notebook";
import { ServerConnection } from "@jupyterlab/services";
import { ISettingRegistry } from "@jupyterlab/settingregistry";
import { ITranslator, nullTranslator } from "@jupyterlab/translation";
import { Widget } from "@lumino/widgets";

import { Api, type Transport } from "./api";
import { addCommands, type Around, Doing } from "./commands";
import { Feed } from "./feed";
import { cellLanguage, following } from "./highlight";
import { deployIcon } from "./icons";
import { Notebooks } from "./notebooks";
import { PanelView } from "./panel";

const ID = "jupyter-gpudeploy:plugin";

function transport(settings: ServerConnection.ISettings): Transport {
  return (path, init) =>
    ServerConnection.makeRequest(URLExt.join(settings.baseUrl, "gpudeploy", "api", path), init, settings);
}

/** The panel as a widget: it looks while somebody can see it. */
class Panel extends Widget {
  readonly #view: PanelView;
  readonly #feed: Feed;
  readonly #seen = (): void => this.#look();

  constructor(view: PanelView, feed: Feed, title: string) {
    super();
    this.#view = view;
    this.#feed = feed;
    this.id = "gpudeploy-panel";
    this.addClass("gdp-host");
    this.title.icon = deployIcon;
    this.title.caption = title;
    this.node.append(view.element);
  }

  protected override onAfterAttach(): void {
    document.addEventListener("visibilitychange", this.#seen);
    this.#look();
  }

  protected override onBeforeDetach(): void {
    document.removeEventListener("visibilitychange", this.#seen);
    this.#rest();
  }

  protected override onAfterShow(): void {
    this.#look();
  }

  protected override onAfterHide(): void {
    this.#rest();
  }

  #look(): void {
    if (!this.isVisible || document.hidden) return this.#rest();
    this.#view.open();
    this.#feed.open();
  }

  #rest(): void {
    this.#feed.close();
    this.#view.close();
  }
}

const panel: JupyterFrontEndPlugin<void> = {
  id: ID,
  description: "The panel of everything that runs, its commands, launcher cards and settings.",
  autoStart: true,
  optional: [
    INotebookTracker,
    ICommandPalette,
    ILauncher,
    IDefaultFileBrowser,
    ILayoutRestorer,
    ISettingRegistry,
    ITranslator,
    ILabShell,
  ],
  activate: (
    app: JupyterFrontEnd,
    tracker: INotebookTracker | null,
    palette: ICommandPalette | null,
    launcher: ILauncher | null,
    browser: IDefaultFileBrowser | null,
    restorer: ILayoutRestorer | null,
    registry: ISettingRegistry | null,
    translator: ITranslator | null,
  ) => {
    const trans = (translator ?? nullTranslator).load("jupyter_gpudeploy");
    const api = new Api(transport(app.serviceManager.serverSettings));
    const feed = new Feed(api);
    const notebooks = new Notebooks(tracker, app.serviceManager, app.commands);
    let backend = "";
    const around: Around = { app, api, feed, notebooks, browser, trans, backend: () => backend, panel: () => widget };
    const doing = new Doing(around);
    const widget: Panel = new Panel(new PanelView(feed, doing), feed, trans.__("Deployments"));
    addCommands(around, doing, palette, launcher);
    app.shell.add(widget, "left", { rank: 700, type: "Deployments" });
    restorer?.add(widget, widget.id);
    void registry
      ?.load(ID)
      .then((settings) => {
        const read = (): void => {
          const seconds = settings.get("pollSeconds").composite;
          const chosen = settings.get("defaultBackend").composite;
          feed.every = typeof seconds === "number" ? Math.max(1, seconds) : 2;
          backend = typeof chosen === "string" ? chosen : "";
        };
        settings.changed.connect(read);
        read();
      })
      .catch((error: unknown) => console.warn("jupyter-gpudeploy: its settings could not be read", error));
  },
};

const highlight: JupyterFrontEndPlugin<void> = {
  id: "jupyter-gpudeploy:cells",
  description: "YAML and Python in the colours of each, in %%deploy cells.",
  autoStart: true,
  requires: [IEditorExtensionRegistry, IEditorLanguageRegistry],
  activate: async (
    _app: JupyterFrontEnd,
    extensions: IEditorExtensionRegistry,
    languages: IEditorLanguageRegistry,
  ): Promise<void> => {
    const [yaml, python] = await Promise.all([
      languages.getLanguage("text/x-yaml"),
      languages.getLanguage("text/x-ipython"),
    ]);
    if (!yaml?.support || !python?.support) return;
    const language = cellLanguage(yaml.support.language.parser, python.support.language.parser);
    extensions.addExtension({
      name: "jupyter-gpudeploy:cells",
      factory: ({ model }) =>
        EditorExtensionRegistry.createImmutableExtension(following(language, model.sharedModel.getSource())),
    });
  },
};

export default [panel, highlight];
