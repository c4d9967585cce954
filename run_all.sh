#!/usr/bin/env bash
# From raw data to a checked submission CSV.
#
#   bash run_all.sh                                          the built-in demo competition
#   bash run_all.sh configs/aerial.yaml --competition.root ../data/aerial
#   bash run_all.sh configs/a.yaml configs/b.yaml            a queue: one after another, past a failure
#   bash run_all.sh configs/aerial.yaml --debug              the same path on a sliver of the data
#
# Every config is preflighted before any long work. Stopped or killed, the same command goes on.
set -uo pipefail
cd "$(dirname "$0")" || exit 2
# shellcheck source=lib/setup.sh
source lib/setup.sh

configs=()
while [ $# -gt 0 ] && [ "${1#--}" = "$1" ]; do
  configs+=("$1")
  shift
done
[ ${#configs[@]} -gt 0 ] || configs=(configs/demo.yaml)
flags=("$@")

set -e
setup_python requirements.txt
set +e
trap 'echo; echo "stopped; run the same command again to go on"; exit 130' INT TERM

run_config() {
  local config=$1 rounds round
  local args=("$config" "${flags[@]}")
  rounds=$("$PYTHON" -m lib get pseudo.rounds "${args[@]}") || return
  "$PYTHON" 01_preprocess.py "${args[@]}" || return
  "$PYTHON" 02_make_folds.py "${args[@]}" || return
  "$PYTHON" 03_train.py "${args[@]}" || return
  for ((round = 1; round <= rounds; round++)); do
    "$PYTHON" 04_pseudo_label.py "${args[@]}" --train.round "$round" || return
    "$PYTHON" 03_train.py "${args[@]}" --train.round "$round" || return
  done
  "$PYTHON" 05_infer_ensemble.py "${args[@]}" || return
}

ready=() failed=0
for config in "${configs[@]}"; do
  echo "=== preflight $config"
  if "$PYTHON" -m lib demo "$config" "${flags[@]}" && "$PYTHON" -m lib preflight "$config" "${flags[@]}"; then
    ready+=("$config")
  else
    failed=$?
    echo "=== $config is left out: its preflight failed"
  fi
done

for config in "${ready[@]}"; do
  echo "=== $config"
  run_config "$config" || {
    failed=$?
    echo "=== $config failed; going on"
  }
done

[ ${#ready[@]} -eq 0 ] || "$PYTHON" -m lib compare "${ready[@]}" "${flags[@]}" || failed=$?
exit "$failed"
