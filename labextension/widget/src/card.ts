/** One view: everything a person sees of a run, drawn from the store that all views of its model share. */

import { Charts } from "./charts";
import { h, newId, setAttribute, setText, show } from "./dom";
import { EventsView } from "./events";
import { Header } from "./header";
import { LogView } from "./log";
import { Look } from "./look";
import { gpuToolbar, metricsToolbar, type Toolbar } from "./toolbar";
import { Notices } from "./notices";
import { Painter } from "./schedule";
import { SheetView } from "./sheet";
import type { Part, Store } from "./store";
import { Tabs } from "./tabs";
import { type Colours, onThemeChange, pageIsDark, readColours } from "./theme";

const TICK_MS = 1000;

export class CardView {
  readonly element: HTMLElement;
  readonly #store: Store;
  readonly #id = newId("view");
  readonly #painter: Painter;
  readonly #header: Header;
  readonly #notices: Notices;
  readonly #sheet: SheetView;
  readonly #log: LogView;
  readonly #gpu: Charts;
  readonly #metrics: Charts;
  readonly #events: EventsView;
  readonly #tabs: Tabs;
  readonly #look: Look;
  readonly #toolbars: readonly Toolbar[];
  readonly #waiting = h("p", { class: "gd-empty gd-waiting", role: "status" }, "Waiting for the kernel…");
  readonly #spoken = h("div", { class: "gd-unseen", role: "status" });
  readonly #body: HTMLElement;
  #colours: Colours | null = null;
  #isSeen = true;
  readonly #endings: (() => void)[] = [];

  constructor(store: Store) {
    this.#store = store;
    this.#painter = new Painter((parts) => this.#draw(parts));
    this.#painter.isSeen = () => this.#isSeen;
    const want = (...parts: string[]): void => this.#painter.want(...parts);
    const pick = (time: number): void => this.#pick(time);
    this.#look = new Look((part) => want(part));
    const [metrics, gpu] = [metricsToolbar(this.#look), gpuToolbar(this.#look)];
    this.#toolbars = [metrics, gpu];
    this.#header = new Header(store, () => this.#whole());
    this.#notices = new Notices(store);
    this.#sheet = new SheetView({ point: (task) => this.#look.emphasize(task), choose: (task) => this.#choose(task) });
    this.#log = new LogView(store, () => want("log"));
    this.#gpu = new Charts("gpu", store, this.#look, { pick }, gpu.element);
    this.#metrics = new Charts("metrics", store, this.#look, { pick }, metrics.element);
    this.#events = new EventsView(store, () => want("events"), pick);
    const panels = [
      { name: "log", label: "Logs", panel: this.#log.element },
      { name: "gpu", label: "GPU", panel: this.#gpu.element },
      { name: "metrics", label: "Metrics", panel: this.#metrics.element },
      { name: "events", label: "Events", panel: this.#events.element },
    ];
    this.#tabs = new Tabs(panels, () => want("tab"));
    this.#body = h(
      "div",
      { class: "gd-body", hidden: true },
      this.#header.element,
      this.#notices.element,
      this.#sheet.element,
      this.#tabs.element,
      this.#tabs.panels,
    );
    this.element = h("section", { class: "gd-card", "aria-label": "Run" }, this.#waiting, this.#body, this.#spoken);
  }

  /** Begin, once the element is in the page. */
  open(): void {
    this.#endings.push(
      this.#store.listen((part) => this.#changed(part)),
      onThemeChange(() => this.#retheme()),
      this.#watchSize(),
      this.#watchSeen(),
    );
    const clock = setInterval(() => this.#painter.want("clock"), TICK_MS);
    this.#endings.push(() => clearInterval(clock));
    this.#store.open(this.#id);
    this.#painter.want("all");
  }

  close(): void {
    for (const end of this.#endings.splice(0)) end();
    this.#painter.close();
    this.#gpu.destroy();
    this.#metrics.destroy();
    this.#store.leave(this.#id);
    this.element.remove();
  }

  // --- drawing

  #changed(part: Part): void {
    const parts: Record<Part, string> = {
      card: "card",
      points: "charts",
      series: "charts",
      events: "events",
      lines: "log",
      log: "log",
      notice: "card",
    };
    this.#painter.want(parts[part]);
  }

  #draw(parts: ReadonlySet<string>): void {
    const store = this.#store;
    const card = store.card;
    const all = parts.has("all") || parts.has("tab") || parts.has("theme");
    if (all || parts.has("card") || parts.has("clock")) this.#drawHead(all || parts.has("card"));
    if (!card) return;
    const open = this.#tabs.current;
    if (open === "log" && (all || parts.has("log") || parts.has("card"))) this.#log.draw();
    if (open === "events" && (all || parts.has("events"))) this.#events.draw();
    if (all || parts.has("events")) this.#tabs.tell("events", String(store.events.length || ""));
    const charts = open === "gpu" ? this.#gpu : open === "metrics" ? this.#metrics : null;
    if (!charts) return;
    for (const toolbar of this.#toolbars) toolbar.draw();
    if (all || parts.has("charts") || parts.has("card")) charts.draw((this.#colours ??= readColours(this.element)));
    else if (parts.has("marks")) charts.mark();
  }

  #drawHead(isNew: boolean): void {
    const card = this.#store.card;
    show(this.#waiting, card === null);
    show(this.#body, card !== null);
    if (!card) {
      setText(
        this.#waiting,
        this.#store.silentSince === null
          ? "Waiting for the kernel…"
          : "The kernel does not answer: it is busy or gone. The run goes on without it.",
      );
      return;
    }
    if (!isNew) return this.#header.tick(card);
    this.#header.draw(card);
    this.#notices.draw();
    this.#sheet.draw(card);
    setAttribute(this.element, "aria-label", `Run ${card.name}`);
    setText(this.#spoken, [`${card.name}: ${card.state}`, card.reason].filter(Boolean).join(", "));
  }

  // --- what a person does

  #pick(time: number): void {
    const from = this.#tabs.current;
    this.#look.pin(time);
    this.#tabs.open("log");
    const names: Record<string, string> = { gpu: "Back to GPU", metrics: "Back to metrics", events: "Back to events" };
    const label = names[from];
    const back = (): void => {
      this.#tabs.open(from);
      this.#tabs.focus();
    };
    this.#log.jump(time, label === undefined ? null : { label, go: back });
    this.#tabs.focus();
  }

  #choose(task: number): void {
    this.#tabs.open("log");
    this.#log.filters.choose(task);
  }

  #whole(): void {
    const { card, filter } = this.#store;
    this.#tabs.open("log");
    this.#log.whole(filter.task ?? card?.best ?? card?.tasks[0]?.[0] ?? 0);
  }

  // --- where it is

  #retheme(): void {
    this.#colours = null;
    setAttribute(this.element, "data-dark", pageIsDark(this.element.parentElement ?? this.element) ? "true" : null);
    this.#painter.want("theme");
  }

  #watchSize(): () => void {
    let width = -1;
    const observer = new ResizeObserver(() => {
      if (this.element.clientWidth === width) return;
      width = this.element.clientWidth;
      setAttribute(this.element, "data-narrow", width > 0 && width < 560 ? "true" : null);
      this.#painter.want("charts", "log");
    });
    observer.observe(this.element);
    observer.observe(this.#tabs.panels);
    return () => observer.disconnect();
  }

  #watchSeen(): () => void {
    const observer = new IntersectionObserver((entries) => {
      this.#isSeen = entries.some(({ isIntersecting }) => isIntersecting);
      this.#store.see(this.#id, this.#isSeen);
      if (!this.#isSeen) return;
      this.#retheme();
      this.#painter.wake();
    });
    observer.observe(this.element);
    return () => observer.disconnect();
  }
}
