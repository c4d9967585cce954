#!/usr/bin/env bash
# The tests. `--slow` adds what takes longer; further arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")"
# shellcheck source=lib/setup.sh
source lib/setup.sh
setup_python requirements-dev.txt
exec "$PYTHON" -m pytest -q "$@"
