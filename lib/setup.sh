# shellcheck shell=bash
# Sourced by run_all.sh and run_tests.sh: finds or makes the Python environment, installs what is missing.
# Sets $PYTHON. Uses the active virtual environment or conda, else .venv beside the scripts.

setup_python() { # setup_python REQUIREMENTS_FILE
  local requirements=$1 prefix stamp
  if [ -n "${VIRTUAL_ENV:-}" ] && [ -x "$VIRTUAL_ENV/bin/python" ]; then
    PYTHON=$VIRTUAL_ENV/bin/python
  elif [ -n "${CONDA_PREFIX:-}" ] && [ -x "$CONDA_PREFIX/bin/python" ]; then
    PYTHON=$CONDA_PREFIX/bin/python
  else
    [ -x .venv/bin/python ] || make_venv
    PYTHON=$PWD/.venv/bin/python
  fi
  require_version "$PYTHON"
  # A stamp in the environment itself: the same requirements are looked at once.
  prefix=$("$PYTHON" -c 'import sys; print(sys.prefix)')
  stamp=$prefix/.requirements-$(cat requirements.txt "$requirements" | cksum | cut -d' ' -f1)
  if [ ! -f "$stamp" ]; then
    echo "setup: installing what $prefix lacks of $requirements (some minutes the first time)"
    # Environments made by uv, or killed while being made, have no pip.
    "$PYTHON" -m pip --version >/dev/null 2>&1 || "$PYTHON" -m ensurepip >/dev/null
    "$PYTHON" -m pip install --quiet --disable-pip-version-check -r "$requirements"
    touch "$stamp" 2>/dev/null || true # a shared environment may be read-only; pip then looks again next time
  fi
  export NO_ALBUMENTATIONS_UPDATE=1 PYTHONUNBUFFERED=1
}

make_venv() {
  command -v python3 >/dev/null || {
    echo "error: python3 is not installed; Python 3.11 or newer is needed" >&2
    exit 2
  }
  require_version python3
  echo "setup: making .venv"
  python3 -m venv .venv
}

require_version() { # require_version PYTHON
  "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "error: $1 is $("$1" --version 2>&1); Python 3.11 or newer is needed" >&2
    exit 2
  }
}
