#!/bin/sh
# Run the tests that need a Kubernetes on the project's own. It is taken down afterwards unless it was up before.
# With GATE=1 those that hold the main promises, in about ten minutes on two processors; the others are said.
set -eu
bin=$1
if ! reason=$("$bin/python" -m tests.cluster why-not); then
    echo "SKIPPED cluster: $reason"
    exit 0
fi
trap 'exit 1' HUP INT TERM
"$bin/python" -m tests.cluster status >/dev/null 2>&1 || trap '"$bin/python" -m tests.cluster down' EXIT
"$bin/python" -m tests.cluster up
chosen=tests/cluster
if [ "${GATE:-}" = 1 ]; then
    chosen=""
    for name in contract examples client cut_off keeping results; do chosen="$chosen tests/cluster/test_$name.py"; done
fi
# shellcheck disable=SC2086 - a list of files
"$bin/python" -m pytest $chosen -m cluster
if [ "${GATE:-}" = 1 ]; then
    echo "SKIPPED cluster, too long for the gate (make test-cluster runs them all): why a pod does not start," \
        "ownership, rights, lifetime, workloads, logs, dry runs of manifests, faults of the cluster's parts," \
        "queues and sets with their controllers (python -m tests.cluster controllers up builds them), Jupyter in pods"
fi
