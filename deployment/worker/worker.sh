#!/usr/bin/env bash
# A worker in shell: worker.sh QUEUE
#
# QUEUE is a directory; a file in it named HASH-SIZE asks for the action with that digest. The
# worker stages the action's input tree as hard links, runs its command there, captures the
# outputs, and writes the action result: from then on every client of the cache has a hit.
# Needs castellan and jq. What it talks to:
#
#   CASTELLAN_SERVER       the cache, as grpc://HOST:PORT
#   CASTELLAN_WORKER       the worker API of the server on this machine, as unix:PATH
#   CASTELLAN_WORKER_ROOT  the server's --worker-root
#   CASTELLAN_WORKER_ONCE  if set, ends when the queue is empty
#
# A real worker would ask a scheduler for its actions; the rest is what it does.
set -euo pipefail

queue=${1:?usage: worker.sh QUEUE}
: "${CASTELLAN_SERVER:?}" "${CASTELLAN_WORKER:?}" "${CASTELLAN_WORKER_ROOT:?}"

# Runs the command of an action in its staged tree; its output goes to $2 and $3.
execute() {
  local action=$1 stdout=$2 stderr=$3 directory=$4
  local -a arguments environment
  readarray -d '' arguments < <(jq -j '.arguments[] + "\u0000"' <<<"$action")
  readarray -d '' environment < <(jq -j '.environment | to_entries[] | .key + "=" + .value + "\u0000"' <<<"$action")
  (
    cd "$directory/$(jq -r .working_directory <<<"$action")"
    exec env -i "${environment[@]}" "${arguments[@]}" >"$stdout" 2>"$stderr" </dev/null
  )
}

# Does one action, from its digest to its result.
run_action() {
  local digest=$1 scratch=$2
  local action inputs name lease outputs status=0
  local -a paths parents
  action=$(castellan action show "$digest")
  inputs=$(jq -r .input_root_digest <<<"$action")
  readarray -t paths < <(jq -r '.output_paths[]' <<<"$action")
  # The protocol wants the parents of outputs to be there.
  readarray -t parents < <(for path in "${paths[@]}"; do dirname "$path"; done | sort -u | grep -vx '\.')
  name=action-$$-${digest%%/*}
  lease=$(castellan stage "$inputs" "$name" "${parents[@]/#/--mkdir=}" --lease 1h --json | jq -r .lease_id)
  execute "$action" "$scratch/stdout" "$scratch/stderr" "$CASTELLAN_WORKER_ROOT/$name" || status=$?
  castellan capture --give-up "$name" "${paths[@]}" >"$scratch/outputs.json"
  castellan release "$lease" --remove
  castellan action finish "$digest" --exit-code "$status" --outputs "$scratch/outputs.json" \
    --stdout "$scratch/stdout" --stderr "$scratch/stderr"
}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
while :; do
  job=$(find "$queue" -maxdepth 1 -type f -name '*-*' | sort | head -n 1)
  if [[ -n $job ]]; then
    digest=$(basename "$job")
    run_action "${digest%-*}/${digest##*-}" "$scratch" || echo "worker: $digest failed" >&2
    rm -f "$job"
  elif [[ -n ${CASTELLAN_WORKER_ONCE:-} ]]; then
    exit 0
  else
    sleep 0.2
  fi
done
