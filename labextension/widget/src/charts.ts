/** A panel of charts: one a chart name, with a legend of trials that they share. */

import type { Curve } from "./curve";
import { xExtent } from "./curve";
import { h, setText, show } from "./dom";
import type { Look } from "./look";
import { colour, COLOURS, dash } from "./palette";
import { Plot, type PlotActions } from "./plot";
import type { Card } from "./protocol";
import type { Series } from "./series";
import type { Store } from "./store";
import type { Colours } from "./theme";
import { dot } from "./tip";

const TITLES: Record<string, string> = {
  "gpu.utilization": "GPU utilization",
  "gpu.memory": "GPU memory",
  "gpu.power": "Power",
  "gpu.temperature": "Temperature",
  cpu: "CPU",
  memory: "Memory",
};
const ORDER = Object.keys(TITLES);
const FEW = 24;

export class Charts {
  readonly element = h("div", { class: "gd-charts" });
  readonly #note = h("p", { class: "gd-note", hidden: true });
  readonly #legend = h("div", { class: "gd-legend", role: "group", "aria-label": "Shown trials" });
  readonly #grid = h("div", { class: "gd-grid" });
  readonly #empty = h("p", { class: "gd-empty" });
  readonly #plots = new Map<string, Plot>();
  readonly #unknown = new Map<string, HTMLElement>();
  #isWhole = false;
  #legendOf = "";

  constructor(
    readonly kind: "gpu" | "metrics",
    private readonly store: Store,
    private readonly look: Look,
    private readonly actions: PlotActions,
    toolbar: HTMLElement,
  ) {
    this.element.append(toolbar, this.#note, this.#legend, this.#grid, this.#empty);
  }

  destroy(): void {
    for (const plot of this.#plots.values()) plot.destroy();
  }

  draw(colours: Colours): void {
    const card = this.store.card;
    if (!card) return;
    const charts = this.#charts(card);
    const known = [...charts].filter(([, curves]) => curves.some(({ series }) => Number.isFinite(series.last)));
    this.#drawLegend(card, charts);
    this.#drawUnknown(charts);
    this.#arrange(known, charts);
    const times = this.#extent(known, "time");
    const steps = this.#extent(known, "step");
    for (const [name, curves] of known) {
      const shown = curves.filter(({ task }) => task === null || !this.look.hidden.has(task));
      const x = curves[0]!.series.head.x === "step" ? steps : times;
      const [isLog, smoothing] = this.kind === "metrics" ? [this.look.isLog, this.look.smoothing] : [false, 0];
      this.#plots.get(name)!.draw({ curves: shown, x, isLog: isLog && shown.some(isPositive), smoothing, colours });
    }
    setText(this.#note, this.kind === "gpu" ? card.gpu_note : "");
    show(this.#note, this.kind === "gpu" && card.gpu_note !== "");
    show(this.#empty, charts.size === 0);
    setText(this.#empty, charts.size ? "" : this.#nothing(card));
  }

  mark(): void {
    for (const plot of this.#plots.values()) plot.mark();
  }

  #nothing(card: Card): string {
    if (!card.live) return this.kind === "gpu" ? "Nothing was measured." : "No metric was reported.";
    if (this.kind === "gpu") return "Nothing measured yet.";
    return "No metric yet. Whatever the program prints as name=value becomes a curve here.";
  }

  /** The curves of each chart of this panel, in the order in which they are drawn: the best last, so on top. */
  #charts(card: Card): Map<string, Curve[]> {
    const found = new Map<string, Curve[]>();
    for (const series of this.store.series.values()) {
      if (series.head.chart.startsWith("metric:") !== (this.kind === "metrics")) continue;
      const curves = found.get(series.head.chart) ?? [];
      found.set(series.head.chart, curves);
      curves.push(this.#curve(series, card));
    }
    for (const curves of found.values()) {
      distinguish(curves);
      curves.sort((one, other) => rank(one, card, this.look) - rank(other, card, this.look));
      const alpha = curves.length > 30 ? 0.5 : curves.length > 10 ? 0.7 : 0.95;
      for (const curve of curves) {
        const isBest = (curve.isBest =
          card.best !== null && curve.task === card.best && this.kind === "metrics" && curves.length > 1);
        const isLit = this.look.highlight !== null && curve.task === this.look.highlight;
        curve.width = isLit || isBest ? 2.6 : 1.4;
        curve.alpha = this.look.highlight === null ? (isBest ? 1 : alpha) : isLit ? 1 : 0.16;
      }
    }
    const places = (name: string): number =>
      name === `metric:${card.metric ?? ""}` ? -1 : (ORDER.indexOf(name) + 99) % 99;
    return new Map([...found].sort(([one], [other]) => places(one) - places(other)));
  }

  #curve(series: Series, card: Card): Curve {
    const task = series.head.task;
    const said = card.tasks.length > 1 && task !== null ? `${noun(card)} ${task}` : "";
    const label = [said, series.head.label]
      .filter((part, place, all) => part && all.indexOf(part) === place)
      .join(" · ");
    return { series, task, label, colour: colour(task), dash: dash(task), width: 1.4, alpha: 1, isBest: false };
  }

  #extent(charts: [string, Curve[]][], x: "time" | "step"): [number, number] {
    const zoom = x === "time" ? this.look.timeZoom : this.look.stepZoom;
    if (zoom) return zoom;
    const every = charts.flatMap(([, curves]) => curves.filter(({ series }) => series.head.x === x));
    const [low, high] = xExtent(every) ?? [0, 1];
    const least = x === "time" ? 10 : 1;
    return high - low < least ? [low, low + least] : [low, high];
  }

  #arrange(known: [string, Curve[]][], charts: Map<string, Curve[]>): void {
    for (const [name, plot] of this.#plots) {
      if (charts.has(name)) continue;
      plot.destroy();
      this.#plots.delete(name);
    }
    known.forEach(([name, curves], place) => {
      const { unit, x } = curves[0]!.series.head;
      let plot = this.#plots.get(name);
      if (!plot) {
        const title = TITLES[name] ?? name.replace(/^metric:/, "");
        plot = new Plot(name, title, unit, x, this.look, this.actions);
        this.#plots.set(name, plot);
      }
      if (this.#grid.children[place] !== plot.element)
        this.#grid.insertBefore(plot.element, this.#grid.children[place] ?? null);
    });
  }

  /** A chart of which nothing is known says so in words: no axes, and never a line at 0. */
  #drawUnknown(charts: Map<string, Curve[]>): void {
    for (const [name, element] of this.#unknown) {
      if (charts.has(name)) continue;
      element.remove();
      this.#unknown.delete(name);
    }
    for (const [name, curves] of charts) {
      const missing = curves.filter(({ series }) => series.head.na && !Number.isFinite(series.last));
      let element = this.#unknown.get(name);
      if (!element) this.#unknown.set(name, (element = h("p", { class: "gd-note" })));
      if (!element.isConnected) this.#grid.after(element);
      const said = missing.slice(0, 8).map(({ label, series }) => `${label}: ${series.head.na ?? ""}`);
      setText(element, missing.length ? `${TITLES[name] ?? name.replace(/^metric:/, "")} · ${said.join(", ")}` : "");
      show(element, missing.length > 0);
    }
  }

  #drawLegend(card: Card, charts: Map<string, Curve[]>): void {
    const curves = [...charts.values()].flat();
    const tasks = [...new Set(curves.map(({ task }) => task))].filter((task) => task !== null);
    tasks.sort((one, other) => Number(other === card.best) - Number(one === card.best) || one - other);
    const names = new Map(card.tasks.map(([task, label]) => [task, label]));
    const of = JSON.stringify([
      tasks,
      [...this.look.hidden],
      card.best,
      this.#isWhole,
      card.tasks.length,
      [...names.values()].slice(0, 3),
    ]);
    if (of === this.#legendOf) return;
    this.#legendOf = of;
    show(this.#legend, tasks.length > 1);
    const shown = this.#isWhole ? tasks : tasks.slice(0, FEW);
    const buttons = shown.map((task) =>
      this.#entry(task, tasks, names.get(task) ?? "", task === card.best, noun(card)),
    );
    const more = tasks.length > FEW && this.#more(tasks.length - FEW);
    const focused = this.#legend.contains(document.activeElement)
      ? (document.activeElement as HTMLElement).dataset["task"]
      : undefined;
    this.#legend.replaceChildren(...buttons, ...(more ? [more] : []));
    if (focused !== undefined) this.#legend.querySelector<HTMLElement>(`[data-task="${focused}"]`)?.focus();
  }

  #entry(task: number, tasks: number[], label: string, isBest: boolean, said: string): HTMLElement {
    const short = `${isBest ? "★ " : ""}${task}`;
    const button = h(
      "button",
      {
        type: "button",
        class: isBest ? "gd-key gd-key-best" : "gd-key",
        title: `${label || `${said} ${task}`} (double click: only this)`,
        "aria-label": `${said} ${task}${isBest ? ", the best" : ""}${label ? `: ${label}` : ""}`,
        "aria-pressed": String(!this.look.hidden.has(task)),
        "data-task": task,
        onclick: () => this.look.toggle(task),
        ondblclick: () => this.look.solo(task, tasks),
        onpointerenter: () => this.look.emphasize(this.look.hidden.has(task) ? null : task),
        onpointerleave: () => this.look.emphasize(null),
      },
      dot(colour(task)),
      short,
    );
    return button;
  }

  #more(count: number): HTMLElement {
    const flip = (): void => {
      this.#isWhole = !this.#isWhole;
      this.#legendOf = "";
      this.look.zoom("step", this.look.stepZoom);
    };
    return h("button", { type: "button", class: "gd-key", onclick: flip }, this.#isWhole ? "fewer" : `+${count}`);
  }
}

export function noun(card: Card): string {
  return card.kind === "sweep" ? "trial" : card.kind === "server" ? "replica" : "task";
}

function isPositive({ series }: Curve): boolean {
  return series.value.subarray(0, series.length).some((value) => value > 0);
}

function rank(curve: Curve, card: Card, look: Look): number {
  if (look.highlight !== null && curve.task === look.highlight) return 2;
  return curve.task !== null && curve.task === card.best ? 1 : 0;
}

/** Several curves of one task, as of its GPUs, differ: by colour where there is one task only, else by dashes. */
function distinguish(curves: Curve[]): void {
  const seen = new Map<number | null, number>();
  const isOneTask = new Set(curves.map(({ task }) => task)).size === 1;
  for (const curve of curves) {
    const place = seen.get(curve.task) ?? 0;
    seen.set(curve.task, place + 1);
    if (!place) continue;
    if (isOneTask) curve.colour = COLOURS[((curve.task ?? 0) + place) % COLOURS.length]!;
    else curve.dash = dash(place * COLOURS.length);
  }
}
