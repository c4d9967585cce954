#!/usr/bin/env bash
# The tests, two at a time. `--slow` adds what takes longer; further arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")"
# shellcheck source=lib/setup.sh
source lib/setup.sh
setup_python requirements-dev.txt
# One thread each: the networks are tiny, and two processes with two threads on two cores only wait for each other.
export OMP_NUM_THREADS=1
exec "$PYTHON" -m pytest -q -n 2 --dist load "$@"
