#!/bin/sh
# Make .venv with the locked versions of everything; does nothing when it is up to date.
# PYTHON names the interpreter (3.11 or newer), CUTROOM_DEVICE the build: cpu or gpu (default: gpu where nvidia-smi works).
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "error: Python 3.11 or newer is needed, and $python is not: name one with PYTHON=... make setup" >&2
    exit 2
fi
device=${CUTROOM_DEVICE:-cpu}
if [ -z "${CUTROOM_DEVICE:-}" ] && nvidia-smi -L >/dev/null 2>&1; then device=gpu; fi
lock=requirements/locked-$device.txt
if cmp -s "$lock" .venv/installed.txt; then exit 0; fi
echo "setting up .venv ($device): about 7 GB the first time" >&2
if [ ! -x .venv/bin/python ] && ! "$python" -m venv .venv; then
    echo "error: $python cannot make a virtual environment (on Debian and Ubuntu: apt install python3-venv)" >&2
    exit 2
fi
uv=$(grep '^uv==' "$lock")
.venv/bin/python -m pip install -q --disable-pip-version-check "$uv"
.venv/bin/uv pip sync -q --python .venv/bin/python "$lock"
cp "$lock" .venv/installed.txt
