#!/bin/sh
# The client's tests with other releases of the kubernetes package: scripts/check_clients.sh [30.1.0 35.0.0 ...]
# "30.1.0+urllib3<2" adds a requirement. PYTHON names an interpreter with the package's test requirements. Each release
# is put into a folder of its own before what that has, and kept below CLIENTS, so that only the first time takes long.
set -eu
cd "$(dirname "$0")/.."
python="${PYTHON:-python3}"
clients="${CLIENTS:-${XDG_CACHE_HOME:-$HOME/.cache}/jupyter_gpudeploy-clients}"
[ "$#" -gt 0 ] || set -- 30.1.0 30.1.0+urllib3\<2 35.0.0 36.0.3 37.0.2
tests=""
for name in client websocket credentials connect doctor; do tests="$tests tests/backends/kubernetes/test_$name.py"; done
begun=$(date +%s)
failed=""
for wanted in "$@"; do
    release="${wanted%%+*}"
    extra="${wanted#"$release"}"
    folder="$clients/$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-$(printf %s "$wanted" | tr -c 'A-Za-z0-9.\n' -)"
    if [ ! -e "$folder/done" ]; then
        rm -rf "$folder"
        "$python" -m pip install --quiet --disable-pip-version-check --no-compile --target "$folder" \
            "kubernetes==$release" ${extra:+"${extra#+}"}
        touch "$folder/done"
    fi
    echo "== kubernetes $wanted"
    PYTHONPATH="$folder:." "$python" -c "import kubernetes; assert kubernetes.__version__ == '$release', kubernetes"
    # shellcheck disable=SC2086 - a list of files
    PYTHONPATH="$folder:." "$python" -m pytest -q -n 2 -p no:cacheprovider $tests || failed="$failed $wanted"
done
echo "== $# releases of the client took $(($(date +%s) - begun)) s"
if [ -n "$failed" ]; then
    echo "failed with kubernetes:$failed"
    exit 1
fi
