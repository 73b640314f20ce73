"""The headline promise: kill -9 the kernel at random moments; every point runs exactly once and every metric is there.

SEEDS=200 in the environment runs more of them.
"""

import os
import random
import time
from collections import Counter

import pytest
from kernels import Kernel

POINTS, KILLS, STEPS = 24, 10, 5
CELL = f"""%%deploy kills -o run
parameters:
  x: {list(range(POINTS))}
parallelism: 2
---
import os, time
x = 0
with open("starts.txt", "a") as file:
    file.write(f"{{x}}\\n")
for step in range({STEPS}):
    print(f"step={{step}} value={{x * 100 + step}}")
    time.sleep(0.15)
"""


@pytest.mark.kernel
@pytest.mark.slow
@pytest.mark.fault(1)
@pytest.mark.fault(2)
@pytest.mark.parametrize("seed", range(int(os.environ.get("SEEDS", "20"))))
def test_every_point_runs_exactly_once_whatever_happens_to_the_kernels(tmp_path, seed):
    chance = random.Random(seed)
    state = tmp_path / "state"
    for _ in range(KILLS):
        kernel = Kernel(tmp_path, state)
        kernel.client.execute("%load_ext jupyter_gpudeploy")
        kernel.client.execute(
            CELL if chance.random() < 0.7 else "import jupyter_gpudeploy as j; run = j.attach('kills')"
        )
        time.sleep(chance.random() * 1.2)
        kernel.kill()
    kernel = Kernel(tmp_path, state)
    try:
        assert kernel.run("%load_ext jupyter_gpudeploy")[0]["status"] == "ok"
        assert kernel.run(CELL)[0]["status"] == "ok"
        assert kernel.run("run.wait(60)")[0]["status"] == "ok"
        trials = kernel.value(
            "run.trials().reset_index()[['x', 'value', 'state', 'attempt', 'exit_code']].values.tolist()"
        )
        points = kernel.value("run.metrics()[['trial', 'step', 'value']].values.tolist()")
    finally:
        kernel.close()
    assert trials == [[x, x * 100 + STEPS - 1, "succeeded", 1, 0] for x in range(POINTS)]
    assert Counter((tmp_path / "starts.txt").read_text().split()) == Counter(map(str, range(POINTS)))
    assert Counter(map(tuple, points)) == Counter((x, s, x * 100 + s) for x in range(POINTS) for s in range(STEPS))
