"""Evaluate a model on one benchmark or on all, and leave the results in a JSON file."""

import argparse
import json
import os
from pathlib import Path

from benchmarks import BENCHMARKS
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import cross_val_score

parser = argparse.ArgumentParser()
parser.add_argument("--benchmark", choices=["all", *BENCHMARKS], default="all")
parser.add_argument("--trees", type=int, default=50)
arguments = parser.parse_args()

names = list(BENCHMARKS) if arguments.benchmark == "all" else [arguments.benchmark]
results = {}
for name in names:
    data, target = BENCHMARKS[name](return_X_y=True)
    model = RandomForestClassifier(n_estimators=arguments.trees, random_state=int(os.environ.get("SEED", "0")))
    results[name] = {"accuracy": cross_val_score(model, data, target, cv=3).mean()}
    print(f"{name}: done")
Path(os.environ.get("GPUDEPLOY_OUTPUT", "."), "results.json").write_text(json.dumps(results))
