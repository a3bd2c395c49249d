#!/bin/sh
# Resolve requirements into requirements/locked-{cpu,gpu}.txt: exact versions, no index addresses, Linux, Python 3.11+.
set -eu
cd "$(dirname "$0")/.."
uv=.venv/bin/uv
compile() {
    "$uv" pip compile -q --universal --python-version 3.11 --no-annotate --no-header "$@"
}
compile --override requirements/cpu-overrides.txt requirements-cpu.txt requirements/dev.txt |
    grep -v "; sys_platform == 'never'$" >requirements/locked-cpu.txt
compile requirements.txt requirements/dev.txt >requirements/locked-gpu.txt
wc -l requirements/locked-*.txt
