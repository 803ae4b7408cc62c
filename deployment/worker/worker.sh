#!/usr/bin/env bash
# A worker in shell: worker.sh QUEUE
#
# QUEUE is a directory; a file in it named HASH-SIZE asks for the action with that digest. The
# worker stages the action's input tree as hard links, runs its command there, captures the
# outputs, and writes the action result: from then on every client of the cache has a hit.
# Then the file goes. What does not belong into the cache is answered in the queue:
#
#   QUEUE/failed/HASH-SIZE  the command failed or took too long, or could not be run at all: what it
#                           and the worker wrote
#   QUEUE/done/HASH-SIZE    the command succeeded and its result must not be cached: the outputs,
#                           as `castellan capture --json` prints them
#
# Needs castellan, jq and timeout. What it talks to:
#
#   CASTELLAN_SERVER       the cache, as grpc://HOST:PORT
#   CASTELLAN_WORKER       the worker API of the server on this machine, as unix:PATH
#   CASTELLAN_WORKER_ROOT  the server's --worker-root
#   CASTELLAN_WORKER_ONCE  if set, ends when the queue is empty
#
# A real worker would ask a scheduler for its actions; the rest is what it does.
set -euo pipefail

: "${CASTELLAN_SERVER:?}" "${CASTELLAN_WORKER:?}" "${CASTELLAN_WORKER_ROOT:?}"

refuse() {
  echo "worker: $*" >&2
  exit 1
}

# goes_down PATH: it is "" or relative, and no part of it leads up.
goes_down() {
  [[ -z $1 || ! /$1/ =~ //|/\.\.?/ ]]
}

# field FILTER: what the action says; `strings` puts a NUL behind each of many.
field() {
  jq -r "$1" <<<"$action"
}
strings() {
  jq -j "$1 + \"\\u0000\"" <<<"$action"
}

# Gives the tree back, however the action ends.
give_back() {
  local status=$?
  [[ -z $lease ]] || castellan release "$lease" --remove || status=1
  exit "$status"
}

# run_action DIGEST SCRATCH: does one action, from its digest to its result. Everything that fails
# ends it: so it has a process of its own, for bash ignores `set -e` in what is part of a condition.
run_action() {
  local digest=$1 scratch=$2
  local inputs directory timeout path name root status=0
  local -a arguments environment paths parents=()
  action=$(castellan action show "$digest")
  inputs=$(field .input_root_digest)
  directory=$(field .working_directory)
  timeout=$(field '.timeout_seconds // 0')
  readarray -d '' arguments < <(strings '.arguments[]')
  readarray -d '' environment < <(strings '.environment | to_entries[] | .key + "=" + .value')
  readarray -d '' paths < <(strings '.output_paths[]')

  goes_down "$directory" || refuse "the working directory leads out: $directory"
  # Outputs are relative to the working directory, and the protocol wants their parents to be there.
  for path in "${paths[@]}"; do
    goes_down "$path" || refuse "an output leads out: $path"
    [[ $path != */* ]] || parents+=("--mkdir=$directory${directory:+/}${path%/*}")
  done

  name=action-$$-${digest%%/*}
  lease=$(castellan stage --quiet "dir:$inputs" "$name" "${parents[@]}" --lease 24h)
  root=$(realpath "$CASTELLAN_WORKER_ROOT/$name")
  : >"$scratch/stdout" >"$scratch/stderr"
  # Here `set -e` does nothing.
  (
    cd -P "$root/$directory" || exit 1
    # A link in the tree may lead anywhere.
    [[ $PWD/ == "$root"/* ]] || refuse "the working directory leads out: $directory"
    exec timeout --kill-after=10 "$timeout" env -i -- "${environment[@]}" "${arguments[@]}" \
      >"$scratch/stdout" 2>"$scratch/stderr" </dev/null
  ) || status=$?
  if [[ $status -ne 0 ]]; then
    cat "$scratch/stdout" "$scratch/stderr"
    refuse "$digest exited with $status"
  fi
  castellan capture --json --give-up "$name${directory:+/$directory}" -- "${paths[@]}" \
    >"$scratch/outputs"
  if [[ $(field .do_not_cache) == true ]]; then
    mv "$scratch/outputs" "$scratch/done"
  else
    castellan action finish "$digest" --exit-code 0 --outputs "$scratch/outputs" \
      --stdout "$scratch/stdout" --stderr "$scratch/stderr"
  fi
}

if [[ ${1:-} == --one ]]; then
  action='' lease=''
  trap give_back EXIT
  trap 'exit 1' INT TERM
  run_action "$2" "$3"
  exit
fi

queue=${1:?usage: worker.sh QUEUE}
mkdir -p "$queue/failed" "$queue/done"
queue=$(realpath "$queue") # commands run elsewhere
# Trees that workers left who were killed: nobody else removes them.
for tree in "$CASTELLAN_WORKER_ROOT"/action-*; do
  owner=${tree##*/action-}
  [[ ! -d $tree || -d /proc/${owner%%-*} ]] || rm -rf "$tree"
done
# In the queue, so that answers are moved within one file system: they are there as a whole.
scratch=$(mktemp -d "$queue/.worker-XXXXXX")
trap 'rm -rf "$scratch"' EXIT
while :; do
  job=$(find "$queue" -maxdepth 1 -type f -name '*-*' | sort | sed -n 1p)
  if [[ -n $job ]]; then
    digest=$(basename "$job")
    rm -f "$scratch"/* "$queue/failed/$digest" "$queue/done/$digest"
    if bash "$0" --one "${digest%-*}/${digest##*-}" "$scratch" >"$scratch/log" 2>&1; then
      [[ ! -e $scratch/done ]] || mv "$scratch/done" "$queue/done/$digest"
    else
      cat "$scratch/log" >&2
      mv "$scratch/log" "$queue/failed/$digest"
    fi
    rm -f "$job"
  elif [[ -n ${CASTELLAN_WORKER_ONCE:-} ]]; then
    exit 0
  else
    sleep 0.2
  fi
done
