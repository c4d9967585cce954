# Sourced by run_all.sh and run_tests.sh: finds or makes the Python environment, installs what is missing.
# Sets $PYTHON. Uses the active virtual environment or conda, else .venv beside the scripts.

setup_python() { # setup_python REQUIREMENTS_FILE
  local requirements=$1 stamp
  if [ -n "${VIRTUAL_ENV:-}" ]; then
    PYTHON=$VIRTUAL_ENV/bin/python
  elif [ -n "${CONDA_PREFIX:-}" ]; then
    PYTHON=$CONDA_PREFIX/bin/python
  else
    if [ ! -x .venv/bin/python ]; then
      command -v python3 >/dev/null || { echo "error: python3 is not installed; Python 3.11 or newer is needed" >&2; exit 2; }
      python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
        echo "error: $(python3 --version) found; Python 3.11 or newer is needed" >&2
        exit 2
      }
      echo "setup: making .venv"
      python3 -m venv .venv
    fi
    PYTHON=$PWD/.venv/bin/python
  fi
  # A stamp in the environment itself: the same requirements are installed once.
  stamp=$("$PYTHON" -c 'import sys; print(sys.prefix)')/.requirements-$(cat requirements*.txt | cksum | cut -d' ' -f1)-$(basename "$requirements")
  if [ ! -f "$stamp" ]; then
    echo "setup: installing $requirements (some minutes the first time)"
    "$PYTHON" -m pip install --quiet --disable-pip-version-check -r "$requirements"
    touch "$stamp"
  fi
  export NO_ALBUMENTATIONS_UPDATE=1 PYTHONUNBUFFERED=1
}
