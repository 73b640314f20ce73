#!/bin/sh
# The card in the kernels that people have: each answers the messages of a widget on another thread, or at another time.
#   scripts/check_kernels.sh [FOLDER]     keeps the virtual environments in FOLDER, for the next time
# A note of each goes to FOLDER/kernels.txt.
set -eu
cd "$(dirname "$0")/.."
folder=${1:-$(mktemp -d)}
python=${PYTHON:-python3}
mkdir -p "$folder"
: > "$folder/kernels.txt"
failed=0
for version in 6.31 7.2 7.4; do
    place=$folder/ipykernel-$version
    if [ ! -x "$place/bin/pytest" ]; then
        "$python" -m venv "$place"
        "$place/bin/pip" install --quiet --editable . "ipykernel==$version.*" anywidget jupyter-client \
            pytest pytest-timeout nbclient
    fi
    if JUPYTER_PREFER_ENV_PATH=1 PATH="$place/bin:$PATH" "$place/bin/python" -m pytest -q -p no:cacheprovider \
        tests/notebook/card/test_card_kernel.py tests/notebook/test_kernel.py > "$folder/$version.log" 2>&1
    then result=passed; else result=FAILED; failed=1; fi
    echo "ipykernel $version: $result: $(tail -n 1 "$folder/$version.log")" | tee -a "$folder/kernels.txt"
done
exit $failed
