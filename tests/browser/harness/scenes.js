// Runs as the kernel's side would tell them, for tests and for looking at. window.scene(name) returns a snapshot.
const STATES = ["succeeded", "succeeded", "succeeded", "running", "running", "failed", "waiting"];
const wave = (n) => Math.sin(n * 12.9898) * 0.5 + 0.5;

function baseCard(given) {
  return {
    title: "digits", name: "digits", uid: "u", kind: "sweep", backend: "local", facts: ["sweep", "local", "2 at a time"],
    state: "running", reason: "", hint: "", started: NOW - 200, seconds: 200, live: true,
    progress: null, eta: null, url: null, gpu_hours: 0, notices: [], problem: "", stale: "", failures: [], sheet: null,
    metric: "val_acc", goal: "maximize", best: null, tasks: [[0, "", "running"]], can_stop: true, gpu_note: "", ...given,
  };
}

function sweep(trials, hasGpu) {
  const points = [];
  const series = [];
  const rows = [];
  const states = [];
  const tasks = [];
  const per = trials > 20 ? 30 : 40;
  let id = 0;
  for (let task = 0; task < trials; task++) {
    const state = task < trials * 0.6 ? "succeeded" : task < trials * 0.6 + 2 ? "running" : "waiting";
    const real = task === 4 ? "failed" : state;
    const lr = [0.003, 0.01, 0.03, 0.1][task % 4];
    tasks.push([task, `lr=${lr}, hidden=${16 << (task % 3)}`, real]);
    const last = 0.72 + 0.25 * wave(task);
    rows.push([task === 5 ? "★" : "", String(task), String(lr), String(16 << (task % 3)), state === "waiting" ? "" : last.toFixed(4), state === "waiting" ? "" : (1 - last).toFixed(4), real, state === "waiting" ? "" : `${(20 + 9 * wave(task + 3)).toFixed(1)} s`]);
    states.push(real);
    if (state === "waiting") continue;
    const begun = NOW - 200 + (task / trials) * 150;
    const steps = state === "running" ? per / 2 : per;
    for (const [name, of] of [["val_acc", (n) => last * (1 - Math.exp(-n / 6)) + 0.02 * wave(n + task)], ["loss", (n) => 2.3 * Math.exp(-n / 7) * (0.6 + last) + 0.03 * wave(n * 3 + task) + 0.02]]) {
      series.push({ id: ++id, chart: `metric:${name}`, label: tasks[task][1], task, unit: "", x: "step" });
      const made = [];
      for (let n = 0; n < steps; n++) made.push([begun + n * 1.3, n, task === 4 && n > 12 ? NaN : of(n)]);
      points.push([id, made]);
    }
  }
  const charts = hasGpu
    ? [["gpu.utilization", "%", (n, g) => 88 + 10 * wave(n + g) - (n % 40 < 4 ? 60 : 0)], ["gpu.memory", "B", (n, g) => (30 + 6 * g + 4 * wave(g)) * 2 ** 30 * Math.min(1, n / 20)], ["gpu.power", "W", (n, g) => 420 + 120 * wave(n + 2 * g)], ["gpu.temperature", "°C", (n, g) => 45 + 18 * (1 - Math.exp(-n / 60)) + 2 * wave(n + g)]]
    : [["cpu", "%", (n, g) => 96 + 5 * wave(n + g)], ["memory", "B", (n, g) => (180 + 90 * g + n / 3) * 2 ** 20]];
  for (const [chart, unit, of] of charts) {
    for (let g = 0; g < 2; g++) {
      series.push({ id: ++id, chart, label: hasGpu ? `GPU ${g}` : tasks[g % trials][1], task: Math.min(trials - 1, g + 5), unit, x: "time" });
      const made = [];
      for (let n = 0; n < 200; n++) made.push([NOW - 200 + n, NaN, n > 90 && n < 104 && g ? NaN : of(n, g)]);
      points.push([id, made]);
    }
  }
  const counts = {};
  for (const state of states) counts[state] = (counts[state] ?? 0) + 1;
  const shown = rows.slice(0, 20);
  const card = baseCard({
    tasks, best: 5, gpu_hours: hasGpu ? 0.11 : 0, eta: 140, url: null,
    progress: { text: `${counts.succeeded} of ${trials} done, 1 failed, 2 running`, total: trials, counts },
    failures: ["trial 4: RuntimeError: loss is NaN at step 13"],
    sheet: { columns: [{ title: "", numeric: false }, { title: "trial", numeric: true }, { title: "lr", numeric: true }, { title: "hidden", numeric: true }, { title: "val_acc", numeric: true }, { title: "loss", numeric: true }, { title: "state", numeric: false }, { title: "time", numeric: true }], rows: shown, states: states.slice(0, 20), more: trials - shown.length },
    gpu_note: hasGpu ? "" : "no GPU visible on this machine: CPU and memory of the run's processes",
  });
  return { card, series, points };
}

function lines(many, tasks) {
  const made = [];
  for (let n = 0; n < many; n++) {
    const task = n % tasks;
    let [level, text] = [null, `epoch=${n} loss=${(2.3 * Math.exp(-n / 50)).toFixed(4)} val_acc=${(1 - Math.exp(-n / 40)).toFixed(4)}`];
    if (n % 37 === 9) [level, text] = ["warning", "UserWarning: \ue000dthe learning rate\ue001 is high for this batch size"];
    if (n % 61 === 20) [level, text] = ["error", "\ue000bRuntimeError\ue001: loss is NaN at step 13"];
    if (n % 29 === 5) [level, text] = ["info", "\ue000gINFO\ue001 checkpoint written to \ue000eout/model.joblib\ue001"];
    made.push([Math.floor(n / tasks) + 1, task, 1, NOW - many + n, level, text, n % 97 === 3 ? 48213 : 0]);
  }
  return made;
}

const happenings = () => [
  [NOW - 200, null, "state", "running"],
  [NOW - 199, 0, "state", "running"],
  [NOW - 150, 4, "error", "failed: RuntimeError: loss is NaN at step 13, exit code 1"],
  [NOW - 149, 4, "warning", "tried again in 5 s, attempt 2"],
  [NOW - 90, 5, "state", "succeeded"],
  [NOW - 60, null, "info", "the file digits.py was edited meanwhile; the run goes on with what it was"],
];

const log = (many, tasks) => ({ lines: lines(many, tasks), before: [[0, 1, 100]], hidden: 0, note: "", files: [[0, "/home/ana/.local/state/jupyter_gpudeploy/runs/digits/logs/0.1.log"]] });

export const SCENES = {
  sweep: () => ({ ...sweep(12, false), events: happenings(), log: log(400, 12) }),
  gpu: () => ({ ...sweep(12, true), events: happenings(), log: log(400, 12) }),
  large: () => ({ ...sweep(60, true), events: happenings(), log: log(400, 60) }),
  server: () => {
    const made = sweep(1, false);
    const card = baseCard({ title: "digits-api", name: "digits-api", kind: "server", facts: ["fastapi server", "local"], state: "ready", url: "http://127.0.0.1:8123", gpu_note: made.card.gpu_note, tasks: [[0, "0", "ready"]] });
    const series = made.series.filter(({ chart }) => !chart.startsWith("metric:")).map((each) => ({ ...each, task: 0 })).filter(({ id }) => id % 2);
    return { card, series, points: made.points.filter(([id]) => series.some((each) => each.id === id)), events: happenings().slice(0, 1), log: log(40, 1) };
  },
  waiting: () => ({ card: baseCard({ state: "waiting", reason: "8 GPUs are asked for, 0 are free: they are leased to llama-70b", hint: "gpus: 4", seconds: null, started: null }), series: [], points: [], events: [], log: log(0, 1) }),
};

window.SCENES = SCENES;
window.snapshot = (name) => {
  const { points, ...said } = SCENES[name]();
  const [counts, buffers] = pack(points);
  tell({ type: "snapshot", ...said, points: counts }, buffers);
};
window.ready = true;
