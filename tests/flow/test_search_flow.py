"""A search goes on whatever happens to the kernels: kill -9 at random moments, every point exactly once.

SEEDS=20 in the environment runs more of them.
"""

import os
import random
import time
from collections import Counter

import pytest
from kernels import Kernel

POINTS, KILLS = 12, 4
CELL = f"""%%deploy search -o run
parameters:
  x: {{min: -10.0, max: 10.0}}
method: bayes
metric: {{name: loss, goal: minimize}}
max_runs: {POINTS}
parallelism: 2
---
import time
x = 0.0
with open("starts.txt", "a") as file:
    file.write(f"{{x!r}}\\n")
for step in range(3):
    print(f"step={{step}} loss={{(x - 2) ** 2 * (3 - step)!r}}")
    time.sleep(0.15)
"""


@pytest.mark.kernel
@pytest.mark.slow
@pytest.mark.fault(1)
@pytest.mark.fault(2)
@pytest.mark.parametrize("seed", range(int(os.environ.get("SEEDS", "3"))))
def test_every_point_of_a_search_runs_exactly_once_whatever_happens_to_the_kernels(tmp_path, seed):
    chance = random.Random(seed)
    for _ in range(KILLS):
        kernel = Kernel(tmp_path, tmp_path / "state")
        kernel.client.execute("%load_ext jupyter_gpudeploy")
        kernel.client.execute(CELL)
        time.sleep(chance.random() * 1.5)
        kernel.kill()
    kernel = Kernel(tmp_path, tmp_path / "state")
    try:
        assert kernel.run("%load_ext jupyter_gpudeploy")[0]["status"] == "ok"
        assert kernel.run(CELL)[0]["status"] == "ok"
        assert kernel.run("run.wait(60)")[0]["status"] == "ok"
        trials = kernel.value("run.trials()[['x', 'loss', 'best_loss', 'state', 'attempt']].values.tolist()")
        best = kernel.value("run.best()['value']")
    finally:
        kernel.close()
    assert [trial[1:] for trial in trials] == [[(x - 2) ** 2, (x - 2) ** 2, "succeeded", 1] for x, *_ in trials]
    assert Counter((tmp_path / "starts.txt").read_text().split()) == Counter(repr(x) for x, *_ in trials)
    assert len({x for x, *_ in trials}) == POINTS
    assert best == min(loss for _, loss, *_ in trials)
