#!/bin/sh
# Run the tests that need a Kubernetes on the project's own. It is taken down afterwards unless it was up before.
set -eu
bin=$1
if ! reason=$("$bin/python" -m tests.cluster why-not); then
    echo "SKIPPED cluster: $reason"
    exit 0
fi
trap 'exit 1' HUP INT TERM
"$bin/python" -m tests.cluster status >/dev/null 2>&1 || trap '"$bin/python" -m tests.cluster down' EXIT
"$bin/python" -m tests.cluster up
"$bin/python" -m pytest tests/cluster -m cluster
