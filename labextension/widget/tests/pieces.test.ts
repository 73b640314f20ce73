import { expect, test } from "vitest";

import { pointAt, xExtent, yExtent } from "../src/curve";
import { safeUrl } from "../src/dom";
import { patternProblem } from "../src/filterbar";
import { count, duration, number, quantity, roughly, size } from "../src/format";
import { KEEP, Lines, spans } from "../src/lines";
import { colour, dash } from "../src/palette";
import { KEEP as KEEP_POINTS, Series } from "../src/series";
import { arranged } from "../src/sheet";
import { consequence } from "../src/stop";
import { isDark } from "../src/theme";
import { card, line, log } from "./fake";

function series(time: number[], value: number[]): Series {
  const made = new Series({ id: 1, chart: "metric:a", label: "a", task: 0, unit: "", x: "time" });
  made.append(
    { time: new Float64Array(time), step: new Float64Array(time), value: new Float32Array(value) },
    0,
    time.length,
  );
  return made;
}

const curve = (given: Series) => ({
  series: given,
  task: 0,
  label: "a",
  colour: "",
  dash: [],
  width: 1,
  alpha: 1,
  isBest: false,
});

test("colours are cut at our marks, and marks that lead nowhere are taken out", () => {
  expect(spans("plain")).toEqual([{ text: "plain", colour: -1 }]);
  expect(spans("a\ue000bred\ue001 end")).toEqual([
    { text: "a", colour: -1 },
    { text: "red", colour: 1 },
    { text: " end", colour: -1 },
  ]);
  expect(
    spans("\ue000\ue000z\ue001x")
      .map(({ text }) => text)
      .join(""),
  ).toBe("zx");
  expect(spans("\ue000p<b>")).toEqual([{ text: "<b>", colour: 15 }]);
});

test("the newest lines are kept, and an unfinished one is replaced", () => {
  const lines = new Lines(log([line(1), line(2, "10 %")]));
  lines.append([line(2, "90 %"), line(3)]);
  expect(lines.rows.map(({ text }) => text)).toEqual(["line 1", "90 %", "line 3"]);
  lines.append(Array.from({ length: 3 * KEEP }, (_each, n) => line(n + 4)));
  expect(lines.rows).toHaveLength(KEEP);
  expect(lines.rows.at(-1)!.number).toBe(3 * KEEP + 3);
  expect(lines.isTorn).toBe(true);
});

test("lines of different tasks with one number are different lines, and so are lines without a number", () => {
  const lines = new Lines(log([line(1, "a", 0), line(0, "b", 0)]));
  lines.append([line(1, "c", 1), line(0, "d", 0)]);
  expect(lines.rows).toHaveLength(4);
});

test("a moment is found in a log, also where some lines have no time", () => {
  const lines = new Lines(log([line(1, "a", 0, 10), line(2, "b", 0, null), line(3, "c", 0, 20)]));
  expect([lines.at(5), lines.at(15), lines.at(99)]).toEqual([0, 2, 2]);
  expect(new Lines(log([line(1, "a", 0, null)])).at(5)).toBe(-1);
});

test("old points make room for new ones", () => {
  const made = series([], []);
  for (let n = 0; n < 12; n++) {
    const part = Array.from({ length: 1000 }, (_each, place) => n * 1000 + place);
    made.append({ time: new Float64Array(part), step: new Float64Array(part), value: new Float32Array(part) }, 0, 1000);
  }
  expect(made.length).toBeLessThanOrEqual(KEEP_POINTS * 1.25);
  expect([made.time[made.length - 1], made.last]).toEqual([11_999, 11_999]);
  expect(made.time[1]! - made.time[0]!).toBe(1);
});

test("smoothing keeps gaps and does not start at 0", () => {
  const smooth = series([1, 2, 3, 4], [10, 10, NaN, 20]).smoothed(0.9);
  expect(smooth[0]).toBeCloseTo(10);
  expect(smooth[2]).toBeNaN();
  expect(smooth[3]).toBeGreaterThan(10);
  expect(smooth[3]).toBeLessThan(20);
});

test("the nearest point is found, and none long before or after a curve", () => {
  const made = curve(series([10, 20, 30], [1, 2, 3]));
  expect([pointAt(made, 14), pointAt(made, 16), pointAt(made, 31)]).toEqual([0, 1, 2]);
  expect([pointAt(made, -100), pointAt(made, 200), pointAt(curve(series([], [])), 1)]).toEqual([-1, -1, -1]);
});

test("ranges leave out what is no number, and what a logarithm has not", () => {
  const made = [curve(series([1, 2, 3], [NaN, -4, 8])), curve(series([], []))];
  expect(xExtent(made)).toEqual([1, 3]);
  expect(yExtent(made, [1, 3], 0, false)).toEqual([-4, 8]);
  expect(yExtent(made, [1, 3], 0, true)).toEqual([8, 8]);
  expect([xExtent([]), yExtent([curve(series([1], [NaN]))], [0, 2], 0, false)]).toEqual([null, null]);
});

test("the best is on top and the others keep their order", () => {
  const columns = ["", "trial"].map((title) => ({ title, numeric: false }));
  const rows = [
    ["", "0"],
    ["★", "1"],
    ["", "2"],
  ];
  const said = arranged({ columns, rows, states: ["running", "failed", "lost"], more: 0 });
  expect(said.map(({ row, state }) => [row[1], state])).toEqual([
    ["1", "failed"],
    ["0", "running"],
    ["2", "lost"],
  ]);
});

test("only http and https can be opened", () => {
  expect(safeUrl("http://127.0.0.1:81/a")).toBe("http://127.0.0.1:81/a");
  for (const text of [
    "javascript:alert(1)",
    " javascript:alert(1)",
    "data:text/html,x",
    "//evil",
    "file:///etc",
    "http",
    "",
    null,
  ]) {
    expect(safeUrl(text)).toBeNull();
  }
});

test("numbers, sizes and times are said as a person reads them", () => {
  expect([number(0.123456), number(1.5e-9), number(-2), number(NaN), number(12345)]).toEqual([
    "0.1235",
    "1.50e−9",
    "−2",
    "NaN",
    "12345",
  ]);
  expect([size(0), size(1536), size(3 * 2 ** 30)]).toEqual(["0 B", "1.5 KiB", "3.0 GiB"]);
  expect([quantity(NaN, "%"), quantity(93.4, "%"), quantity(2 ** 20, "B")]).toEqual(["N/A", "93 %", "1.0 MiB"]);
  expect([duration(8), duration(65), duration(7620), duration(187_200)]).toEqual([
    "8 s",
    "1 min 05 s",
    "2 h 07 min",
    "2 d 4 h",
  ]);
  expect([roughly(3), roughly(42), roughly(200), roughly(9000)]).toEqual([
    "a few seconds",
    "about 40 s",
    "about 3 min",
    "about 2.5 h",
  ]);
  expect(count(1234567)).toBe("1,234,567");
});

test("trials that share a colour differ in their dashes", () => {
  expect(colour(3)).toBe(colour(13));
  expect(dash(3)).not.toEqual(dash(13));
});

test("stopping says what is lost", () => {
  const progress = { text: "", total: 9, counts: { running: 1, waiting: 3, succeeded: 5 } };
  const said = consequence(card({ progress }));
  expect(said).toBe(
    "1 running trial ends, and what it has not saved is lost; 3 trials will not start; the 5 finished trials stay.",
  );
  expect(consequence(card({ kind: "server" }))).toContain("no more requests");
});

test("a pattern that only Python knows is left to Python", () => {
  expect([patternProblem("a+"), patternProblem("("), patternProblem("(?P<n>a)")]).toEqual([
    "",
    "not a pattern yet",
    "",
  ]);
});

test("a dark colour is known from a light one, and nothing is known of a transparent one", () => {
  expect([isDark("rgb(17, 17, 17)"), isDark("rgb(255,255,255)"), isDark("rgba(0, 0, 0, 0)")]).toEqual([
    true,
    false,
    null,
  ]);
});
