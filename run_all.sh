#!/usr/bin/env bash
# From raw data to a checked submission CSV.
#
#   bash run_all.sh                                          the built-in demo competition
#   bash run_all.sh configs/aerial.yaml --competition.root ../data/aerial
#   bash run_all.sh configs/a.yaml configs/b.yaml            a queue: one after another, past a failure
#   bash run_all.sh configs/aerial.yaml --debug              the same path on a sliver of the data
#
# Every config is preflighted before any long work. Stopped or killed, the same command goes on.
# Exit code: 0, or the last failing step's (2: a mistake to correct, 130: stopped).
set -euo pipefail
cd "$(dirname "$0")"
# shellcheck source=lib/setup.sh
source lib/setup.sh

configs=()
while [ $# -gt 0 ] && [ "${1#--}" = "$1" ]; do
  configs+=("$1")
  shift
done
[ ${#configs[@]} -gt 0 ] || configs=(configs/demo.yaml)
# What is left in "$@" are the options, for every config.

setup_python requirements.txt
set +e # from here on one config's failure must not stop the others
trap 'echo; echo "stopped; run the same command again to go on"; exit 130' INT TERM

run_config() { # run_config CONFIG [--key value …]
  local rounds round more
  rounds=$("$PYTHON" -m lib get pseudo.rounds "$@") || return
  "$PYTHON" 01_preprocess.py "$@" || return
  "$PYTHON" 02_make_folds.py "$@" || return
  "$PYTHON" 03_train.py "$@" || return
  for ((round = 1; round <= rounds; round++)); do
    "$PYTHON" 04_pseudo_label.py "$@" --train.round "$round" || return
    "$PYTHON" 03_train.py "$@" --train.round "$round" || return
    [ "$round" -lt "$rounds" ] || break
    more=$("$PYTHON" -m lib another_round "$@" --train.round "$round") || return
    if [ "$more" = no ]; then
      echo "=== no round after $round: pseudo.patience without a better OOF score"
      break
    fi
  done
  if [ "$("$PYTHON" -m lib get infer.folds "$@")" = all ]; then
    round=$("$PYTHON" -m lib chosen_round "$@") || return
    "$PYTHON" 03_train.py "$@" --train.round "$round" --train.folds all || return
  fi
  "$PYTHON" 05_infer_ensemble.py "$@" || return
}

ready=() failed=() code=0
for config in "${configs[@]}"; do
  echo "=== preflight $config"
  if "$PYTHON" -m lib demo "$config" "$@" && "$PYTHON" -m lib preflight "$config" "$@"; then
    ready+=("$config")
  else
    code=$?
    failed+=("$config")
    echo "=== $config is left out: its preflight failed"
  fi
done

if [ ${#ready[@]} -gt 0 ]; then
  for config in "${ready[@]}"; do
    echo "=== $config"
    run_config "$config" "$@" || {
      code=$?
      failed+=("$config")
      echo "=== $config failed; going on"
    }
  done
  "$PYTHON" -m lib compare "${ready[@]}" "$@" || code=$?
fi

[ ${#failed[@]} -eq 0 ] || echo "=== failed: ${failed[*]} (what went wrong stands above)" >&2
exit "$code"
