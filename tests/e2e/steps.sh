# The frame of a run: steps, their logs, the end. Sourced by the scripts that drive a real client;
# with it come the server (server.sh) and what judges a Bazel run (checks.sh).
#
# Whoever sources it calls `begin NAME ARGS...`, then `step` for each thing that must hold, then
# `finish`. The first failing step ends the run and shows the logs. A function `close_clients`, if
# there is one, ends what the script has started beside the server.
# shellcheck shell=bash

repository=$(cd "$here/../.." && pwd)
# shellcheck source=tests/e2e/checks.sh
source "$here/checks.sh"
# shellcheck source=tests/e2e/server.sh
source "$here/server.sh"

castellan='' work=''
run_name='' passed=0
step_name='' step_start=0 failed_at=''

# begin NAME [BINARY]: makes a directory to work in and finds the program under test.
begin() {
  run_name=$1
  shift
  work=$(mktemp -d -t castellan-e2e.XXXXXX)
  mkdir "$work/logs"
  exec 3>&1 4>&2
  trap on_exit EXIT
  # The innermost failing command; the functions around it fail after it.
  trap '[[ -n $failed_at ]] || failed_at="${FUNCNAME[*]}, line $LINENO: $BASH_COMMAND"' ERR
  trap 'exit 130' INT TERM
  find_castellan "$@"
}

finish() {
  echo "e2e $run_name: $passed passed, 0 failed"
  echo "$passed passed, 0 failed"
}

# step NAME FUNCTION ARGS...: not called in a condition, or bash would ignore errors inside.
step() {
  step_name=$1 step_start=$SECONDS
  shift
  "$@"
  passed=$((passed + 1))
  printf 'ok    %3d s  %s\n' $((SECONDS - step_start)) "$step_name"
  step_name=''
}

on_exit() {
  local status=$?
  set +e
  exec >&3 2>&4 # a signal may come while a command's output goes to a log
  if [[ $status -ne 0 ]]; then
    printf 'FAIL  %3d s  %s\n' $((SECONDS - step_start)) "${step_name:-before the first step}"
    [[ -z $failed_at ]] || echo "in $failed_at"
    show_logs
    echo "$passed passed, 1 failed"
  fi
  [[ $(type -t close_clients) != function ]] || close_clients
  [[ -z $server_pid ]] || kill_server
  if [[ -n $work && -z ${KEEP:-} ]]; then
    chmod -R u+w "$work" # Bazel makes its outputs read-only
    rm -rf "$work"
  fi
  exit "$status"
}

show_logs() {
  local log
  [[ -n $work ]] || return 0
  log=$(find "$work/logs" -name '*.log' -printf '%T@ %p\n' | sort -n | tail -n 1 | cut -d ' ' -f 2)
  [[ -z $log ]] || { echo "--- last log of a client:"; cut -c 1-300 "$log" | grep -v '^[0-9]*$' | tail -n 40; }
  [[ ! -e $work/server.log.err ]] || { echo "--- server:"; tail -n 40 "$work/server.log.err"; }
}

# BINARY, or $CASTELLAN_BIN, or what `cargo build --release --locked` makes.
find_castellan() {
  castellan=${1:-${CASTELLAN_BIN:-}}
  if [[ -z $castellan ]]; then
    cd "$repository" # a relative CARGO_TARGET_DIR is relative to it
    cargo build --release --locked
    castellan=${CARGO_TARGET_DIR:-target}/release/castellan
  fi
  castellan=$(realpath "$castellan")
  [[ -x $castellan ]]
}

# install PACKAGE...: from the system's package registry, as root or with sudo.
install() {
  local -a as_root=()
  [[ $(id -u) -eq 0 ]] || as_root=(sudo)
  "${as_root[@]}" apt-get update -q >"$work/logs/apt.log" 2>&1 </dev/null
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -q -y --no-install-recommends "$@" >>"$work/logs/apt.log" 2>&1 </dev/null
}

start() {
  start_server "$castellan" "$work/store" "$work/server.log"
}

# equals WANT GOT WHAT: says both when they differ.
equals() {
  [[ $1 == "$2" ]] || { echo "$3: expected '$1', got '$2'" >&2; return 1; }
}
