// A model as anywidget gives it, and a kernel's side that a test feeds. Everything is on `window`.
import card from "./card.js";

const handlers = new Set();
const makeProxy = () => ({
  get: (key) => ({ uid: window.uid ?? "u1", run_name: "digits" })[key],
  on: (event, callback) => event === "msg:custom" && handlers.add(callback),
  off: (event, callback) => handlers.delete(callback),
  send: (content) => {
    if (window.isDead) throw new Error("no comm");
    window.sent.push({ ...content, at: performance.now() });
    window.answer?.(content);
  },
});
let seq = 0;
let end = () => undefined;

Object.assign(window, {
  sent: [],
  handlers,
  NOW: Date.now() / 1000,
  tell(content, buffers = []) {
    for (const handler of [...handlers]) handler({ ...content, seq: ++seq }, buffers);
  },
  // Points as [[id, [[time, step, value], ...]], ...]: the list for the message, and the three buffers.
  pack(series) {
    const all = series.flatMap(([, points]) => points);
    const buffers = [
      new Float64Array(all.map((point) => point[0])),
      new Float64Array(all.map((point) => point[1])),
      new Float32Array(all.map((point) => point[2])),
    ];
    const given = buffers.map((each) => new DataView(each.buffer, each.byteOffset, each.byteLength));
    return [series.map(([id, points]) => [id, points.length]), given];
  },
  openModel() {
    end = card.initialize({ model: makeProxy() });
  },
  view() {
    const el = document.createElement("div");
    document.getElementById("views").append(el);
    const close = card.render({ model: makeProxy(), el });
    return () => {
      close();
      el.remove();
    };
  },
  closeModel: () => end(),
});

