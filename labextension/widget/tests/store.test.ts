import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { Store } from "../src/store";
import { openStore, storeOf } from "../src/stores";
import { buffers, card, FakeModel, line, log, snapshot } from "./fake";

const HEAD = { id: 7, chart: "cpu", label: "a", task: 0, unit: "%", x: "time" };
let model: FakeModel;
let store: Store;

beforeEach(() => {
  vi.useFakeTimers();
  model = new FakeModel();
  store = new Store(model);
});
afterEach(() => {
  store.close();
  vi.useRealTimers();
});

test("a view says hello, and a snapshot replaces everything", () => {
  store.open("v1");
  expect(model.sent[0]).toEqual({ type: "hello", view: "v1" });
  model.tell(
    snapshot({ series: [HEAD], points: [[7, 2]], log: log([line(1)]) }),
    buffers([1, 2], [NaN, NaN], [3, NaN]),
  );
  expect(store.series.get(7)!.length).toBe(2);
  model.tell(snapshot());
  expect(store.series.size).toBe(0);
  expect(store.lines.rows).toHaveLength(0);
});

test("points are appended wherever the buffers come from, a DataView at an odd place too", () => {
  model.tell(snapshot({ series: [HEAD], points: [[7, 1]] }), buffers([1], [NaN], [3]));
  const odd = buffers([2], [NaN], [4]).map((buffer) => {
    const room = new Uint8Array(buffer.byteLength + 3);
    room.set(new Uint8Array(buffer), 3);
    return new DataView(room.buffer, 3);
  });
  model.tell({ type: "append", series: [], points: [[7, 1]] }, odd);
  const series = store.series.get(7)!;
  expect([series.length, series.time[1], series.value[1]]).toEqual([2, 2, 4]);
  expect(series.last).toBe(4);
});

test("what is not understood is passed over", () => {
  const warn = vi.spyOn(console, "warn").mockImplementation(() => undefined);
  model.tell(snapshot());
  model.tell({ type: "of a later release", anything: 1 });
  model.tell({ type: "append", series: null, points: "no" });
  model.tell({ type: "append", series: [], points: [[99, 5]] }, "no buffers");
  for (const handler of model.handlers) for (const junk of [null, 3, "text", []]) handler(junk);
  expect(store.card!.name).toBe("digits");
  expect(warn).toHaveBeenCalledTimes(1);
});

test("it acknowledges the newest message once a second at most", () => {
  store.open("v1");
  for (let n = 0; n < 30; n++) model.tell({ type: "lines", lines: [line(n + 1)], hidden: 0 });
  vi.advanceTimersByTime(1000);
  vi.advanceTimersByTime(3000);
  expect(model.sent.filter(({ type }) => type === "ack")).toEqual([{ type: "ack", seq: 30 }]);
});

test("it says when its last view has gone for good", () => {
  store.open("v1");
  store.open("v2");
  store.leave("v1");
  vi.advanceTimersByTime(1000);
  store.leave("v2");
  store.open("v3"); // moved to another place
  vi.advanceTimersByTime(1000);
  expect(model.types()).not.toContain("left");
  store.leave("v3");
  vi.advanceTimersByTime(1000);
  expect(model.types().filter((type) => type === "left")).toHaveLength(1);
});

test("it says that nothing is seen when no view is, and again when one is", () => {
  store.open("v1");
  store.open("v2");
  store.see("v1", false);
  vi.advanceTimersByTime(1000);
  expect(model.types()).not.toContain("visible");
  store.see("v2", false);
  store.see("v2", true); // scrolled past: not worth a message
  vi.advanceTimersByTime(300);
  store.see("v2", false);
  vi.advanceTimersByTime(1000);
  store.see("v1", true);
  expect(model.sent.filter(({ type }) => type === "visible").map(({ visible }) => visible)).toEqual([false, true]);
});

test("filters wait until nobody types any more, and only the last answer counts", () => {
  model.tell(snapshot({ log: log([line(1), line(2)]) }));
  for (const text of ["e", "er", "err"]) store.wantLines({ task: null, text, regex: false, level: null });
  vi.advanceTimersByTime(400);
  const asked = model.sent.filter(({ type }) => type === "filter");
  expect(asked).toHaveLength(1);
  expect(asked[0]).toMatchObject({ text: "err", regex: false, level: null, task: null });
  model.tell({ type: "log", request: 12, log: log([line(9)]) });
  expect(store.lines.rows).toHaveLength(2);
  model.tell({ type: "log", request: asked[0]!["request"], log: log([line(5, "err")]) });
  expect(store.lines.rows.map(({ text }) => text)).toEqual(["err"]);
});

test("a hello after a filter sends the filter again, because a kernel forgets it", () => {
  store.wantLines({ task: 3, text: "", regex: false, level: null });
  vi.advanceTimersByTime(400);
  store.open("v2");
  vi.advanceTimersByTime(10);
  expect(model.types().slice(-2)).toEqual(["hello", "filter"]);
});

test("a kernel that is silent is asked, then said to be silent, until it speaks", () => {
  store.open("v1");
  model.tell(snapshot());
  vi.advanceTimersByTime(22_000);
  expect(model.types().filter((type) => type === "hello")).toHaveLength(2);
  expect(store.silentSince).toBeNull();
  vi.advanceTimersByTime(12_000);
  expect(store.silentSince).not.toBeNull();
  model.tell({ type: "card", card: card() });
  expect(store.silentSince).toBeNull();
});

test("a kernel that was let go of is said to have ended at once, and is not asked to stop the run", () => {
  store.open("v1");
  model.tell(snapshot());
  vi.advanceTimersByTime(3000);
  model.cutOff();
  expect(store.isCutOff).toBe(true);
  expect(performance.now() - store.silentSince!).toBe(3000);
  store.stop();
  expect(store.isStopping).toBe(false);
  expect(store.error).toContain("%deploy stop digits");
  expect(model.types()).not.toContain("stop");
  model.isDead = false;
  model.tell({ type: "card", card: card() });
  expect([store.isCutOff, store.silentSince]).toEqual([false, null]);
});

test("a kernel that is let go of when the run has ended is no news", () => {
  store.open("v1");
  model.tell(snapshot({ card: card({ live: false, state: "succeeded" }) }));
  model.cutOff();
  expect([store.isCutOff, store.silentSince]).toEqual([false, null]);
});

test("a run that has ended is left alone, and a dead comm throws nothing", () => {
  store.open("v1");
  model.tell(snapshot({ card: card({ live: false, state: "succeeded" }) }));
  vi.advanceTimersByTime(200_000);
  expect(model.types().filter((type) => type === "hello")).toHaveLength(1);
  model.isDead = true;
  expect(() => store.stop()).not.toThrow();
  expect(store.silentSince).not.toBeNull();
});

test("the two proxies of one model share a store, and a new model of the same uid takes its place", () => {
  const first = new FakeModel("shared");
  const end = openStore(first);
  const made = storeOf(new FakeModel("shared"));
  expect(storeOf(first)).toBe(made);
  const endSecond = openStore(new FakeModel("shared"));
  expect(first.handlers.size).toBe(0);
  expect(storeOf(first)).not.toBe(made);
  end();
  expect(storeOf(first)).not.toBe(made);
  endSecond();
});
