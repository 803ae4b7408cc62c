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
# SIGTERM ends it after the action under way. Needs castellan, jq, timeout, flock and findmnt. What
# it talks to:
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

# A place is a directory of one worker. It holds a lock on the file `lock` in it, as does all it
# starts; a directory with a number is what one action has there.
readonly PLACE=castellan-worker.sh-

# take_place DIRECTORY VARIABLE: makes a place below a directory. It is locked before others see it
# as one, and as long as this process or one of its children lives.
take_place() {
  local lock
  local -n taken=$2
  taken=$(mktemp -d "$1/${PLACE}XXXXXXXXXX")
  exec {lock}>"$taken/lock.new"
  flock -n "$lock"
  mv "$taken/lock.new" "$taken/lock"
}

# remove_tree DIRECTORY: removes it. Where something is mounted in it, it stays: that may be
# anything. Links of the store are not to be changed: only directories are made writable.
remove_tree() {
  local mounts
  mounts=$(findmnt -ln -o TARGET) || return
  [[ $mounts != *"$1"* ]] || return
  rm -rf --one-file-system -- "$1" 2>/dev/null || {
    find "$1" -xdev -type d ! -perm -700 -exec chmod u+rwx {} \;
    rm -rf --one-file-system -- "$1"
  }
}

# remove_numbered PLACE: removes what actions have there, and says what stays.
remove_numbered() {
  local tree status=0
  for tree in "$1"/[0-9]*; do
    if [[ -d $tree ]] && ! remove_tree "$tree"; then
      echo "worker: cannot remove $tree, it stays" >&2
      status=1
    fi
  done
  return "$status"
}

# leave_place PLACE: removes a place, by who has the lock, unless something in it stays.
leave_place() {
  if remove_numbered "$1"; then
    rm -f "$1/lock"
    rmdir "$1" || : # says so
  fi
}

# sweep DIRECTORY: removes places of this user's workers that are gone: whose lock can be had.
sweep() {
  local place
  for place in "$1/$PLACE"*; do
    [[ -d $place && ! -L $place && -O $place && -f $place/lock ]] || continue
    {
      if flock -n 9 && [[ $place/lock -ef /proc/self/fd/9 ]]; then
        leave_place "$place"
      fi
    } 9<"$place/lock" || : # left just now
  done
}

# Gives the tree back, however the action ends. What cannot be given back, as when the lease has
# ended with the server, the worker removes; the lease is of no use then.
give_back() {
  local status=$?
  [[ -z $lease ]] || castellan release "$lease" --remove || castellan release "$lease" || :
  exit "$status"
}

# run_action DIGEST SCRATCH NAME: does one action, from its digest to its result, in the directory
# of that name below the worker root. Everything that fails ends it: so it has a process of its own,
# for bash ignores `set -e` in what is part of a condition.
run_action() {
  local digest=$1 scratch=$2 name=$3
  local inputs directory timeout path root status=0
  local -a arguments environment paths parents=()
  action=$(castellan action show "$digest")
  inputs=$(field .input_root_digest)
  directory=$(field .working_directory)
  timeout=$(field '.timeout_seconds // 0')
  readarray -d '' arguments < <(strings '.arguments[]')
  readarray -d '' environment < <(strings '.environment | to_entries[] | .key + "=" + .value')
  readarray -d '' paths < <(strings '.output_paths[]')

  # `env` would take it for a variable.
  [[ ${arguments[0]-} != *=* ]] || refuse "no name of a command: ${arguments[0]}"
  goes_down "$directory" || refuse "the working directory leads out: $directory"
  # Outputs are relative to the working directory, and the protocol wants their parents to be there.
  for path in "${paths[@]}"; do
    goes_down "$path" || refuse "an output leads out: $path"
    [[ $path != */* ]] || parents+=("--mkdir=$directory${directory:+/}${path%/*}")
  done

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
  trap 'exit 1' HUP INT TERM
  run_action "$2" "$3" "$4"
  exit
fi

queue=${1:?usage: worker.sh QUEUE}
mkdir -p "$queue/failed" "$queue/done"
queue=$(realpath "$queue") # commands run elsewhere
root=$(realpath "$CASTELLAN_WORKER_ROOT")
# What workers left who were killed: nobody else removes it.
sweep "$root"
sweep "$queue"
trees='' answers='' number=0 is_over=''
leave() {
  [[ -z $answers ]] || leave_place "$answers"
  [[ -z $trees ]] || leave_place "$trees"
}
trap leave EXIT
trap 'is_over=1' HUP INT TERM
take_place "$root" trees
# In the queue, so that answers are moved within one file system: they are there as a whole.
take_place "$queue" answers
while [[ -z $is_over ]]; do
  job=$(find "$queue" -maxdepth 1 -type f -name '*-*' | sort | sed -n 1p)
  if [[ -n $job ]]; then
    digest=$(basename "$job")
    rm -f "$queue/failed/$digest" "$queue/done/$digest"
    # What could not be removed has its number for good.
    number=$((number + 1)) scratch=$answers/$number
    mkdir "$scratch"
    if bash "$0" --one "${digest%-*}/${digest##*-}" "$scratch" "${trees##*/}/$number" \
      >"$scratch/log" 2>&1; then
      [[ ! -e $scratch/done ]] || mv "$scratch/done" "$queue/done/$digest"
      rm -f "$job"
    # A signal may have ended it too: then it is for the next worker.
    elif [[ -z $is_over ]]; then
      cat "$scratch/log" >&2
      mv "$scratch/log" "$queue/failed/$digest"
      rm -f "$job"
    fi
    remove_numbered "$trees" || :
    remove_numbered "$answers" || :
  elif [[ -n ${CASTELLAN_WORKER_ONCE:-} ]]; then
    exit 0
  else
    sleep 0.2 || : # the signal is for it too
  fi
done
