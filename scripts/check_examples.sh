#!/bin/sh
# Run every example notebook as a test, in a state folder of its own, so that no earlier run is found again.
set -eu
bin=$1
state=$(mktemp -d)
trap 'rm -rf "$state"' EXIT
JUPYTER_GPUDEPLOY_HOME=$state "$bin/python" -m pytest -p no:cacheprovider --nbval-lax --nbval-current-env \
    --nbval-cell-timeout 300 -W default examples
