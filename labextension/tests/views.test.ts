import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { Api, type LogPart } from "../src/api";
import { LogView } from "../src/logs";
import { order, ResultsView } from "../src/results";
import { json } from "./fake";

const TASKS = [
  { number: 0, name: "0", state: "running" },
  { number: 1, name: "lr=0.1", state: "waiting" },
];

function part(changes: Partial<LogPart>): LogPart {
  return { task: 0, attempt: 1, tasks: TASKS, text: "", from: 0, to: 0, size: 0, cut: false, ...changes };
}

describe("the log", () => {
  let asked: string[];
  let answers: (LogPart | number)[];
  let view: LogView;

  beforeEach(() => {
    vi.useFakeTimers();
    asked = [];
    answers = [];
    const api = new Api((path) => {
      asked.push(path.split("?")[1] ?? "");
      const answer = answers.shift() ?? part({ from: 4, to: 4, size: 4 });
      return Promise.resolve(typeof answer === "number" ? json({ message: "no" }, answer) : json(answer));
    });
    view = new LogView(api, "id", "digits");
    document.body.replaceChildren(view.element);
  });

  afterEach(() => {
    view.close();
    vi.useRealTimers();
  });

  const soon = (ms = 0): Promise<unknown> => vi.advanceTimersByTimeAsync(ms);
  const lines = (): string[] => [...view.element.querySelectorAll("pre")].flatMap((one) => one.textContent.split("\n"));

  it("asks for its end first, then for what is new", async () => {
    answers.push(part({ text: "one\n", to: 4, size: 4 }), part({ text: "two\n", from: 4, to: 8, size: 8 }));
    view.open();
    await soon();
    await soon(1000);
    expect(lines()).toEqual(["one", "two"]);
    expect(asked.slice(0, 2)).toEqual(["from=-1", "from=4&task=0&attempt=1"]);
  });

  it("says where something was left out, and where a new attempt begins", async () => {
    answers.push(
      part({ text: "one\n", to: 4, size: 4 }),
      part({ text: "far\n", from: 90, to: 94, size: 94, cut: true }),
      part({ text: "again\n", from: 0, to: 6, size: 6, attempt: 2 }),
    );
    view.open();
    await soon(2500);
    expect(lines()).toEqual(["one", "— a part of the log was left out —", "far", "— attempt 2 begins —", "again"]);
  });

  it("keeps no more lines than a page bears", async () => {
    const text = `${Array.from({ length: 9000 }, (_, n) => `line ${n}`).join("\n")}\n`;
    answers.push(part({ text, to: 4, size: 4 }));
    view.open();
    await soon();
    expect(lines().length).toBe(5000);
    expect(lines().at(-1)).toBe("line 8999");
  });

  it("rests while nobody sees it, and asks more rarely of what does not answer", async () => {
    answers.push(part({ text: "one\n", to: 4, size: 4 }), 502, 502);
    view.open();
    await soon(1000);
    expect(view.element.querySelector("[role=status]")?.textContent).toBe("Not up to date: no. Trying again in 2 s.");
    await soon(2000);
    expect(asked.length).toBe(3);
    await soon(3900);
    expect(asked.length).toBe(3);
    view.close();
    await soon(60_000);
    expect(asked.length).toBe(3);
  });
});

describe("the results", () => {
  it("are text, and sorted by a click; what is not known stands last", async () => {
    const rows = [
      ["<b>x</b>", 2],
      ["y", null],
      ["z", 10],
    ];
    const api = new Api(() => Promise.resolve(json({ columns: ["name", "loss"], rows, total: 3, sorted_by: null })));
    const view = new ResultsView(api, "id", "digits");
    document.body.replaceChildren(view.element);
    await view.read();
    const column = (): (string | null)[] =>
      [...view.element.querySelectorAll("td:first-child")].map((one) => one.textContent);
    expect(column()).toEqual(["<b>x</b>", "y", "z"]);
    const loss = (): HTMLElement => view.element.querySelectorAll<HTMLElement>("th button")[1]!;
    loss().click();
    loss().click();
    expect(column()).toEqual(["z", "<b>x</b>", "y"]);
    expect(document.activeElement).toBe(loss());
    expect(loss().parentElement?.getAttribute("aria-sort")).toBe("descending");
  });

  it("orders numbers as numbers", () => {
    expect([10, 9, null, 2].sort((one, other) => order(one, other, false))).toEqual([2, 9, 10, null]);
  });
});
