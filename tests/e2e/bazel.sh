#!/usr/bin/env bash
# A real Bazel build is cached: builds a generated workspace against `castellan serve`, wipes the
# local output, and requires that every cacheable action is a remote cache hit with the same bytes.
#
#   tests/e2e/bazel.sh [BINARY]
#
# BINARY, or $CASTELLAN_BIN, or what `cargo build --release --locked` makes. Installs Debian's
# bazel-bootstrap 4.2.3 with apt-get when no Bazel 4 is there. Needs no network otherwise.
# Ends with "N passed, 0 failed"; the first failing step ends the run and shows its log.
# KEEP=1 keeps the temporary directory.
set -Eeuo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)
# shellcheck source=tests/e2e/checks.sh
source "$here/checks.sh"
# shellcheck source=tests/e2e/server.sh
source "$here/server.sh"

bazel='' castellan='' work=''
passed=0
step_name='' step_start=0 failed_at=''
machine=0                # counts the output bases, each a "new machine"
expected_hits=0          # what the filling build executed
readonly CRASH_ACTIONS=300 # in //crash, of workspace.sh
declare -a open_bases=() # output bases whose Bazel server may be running

# ---------------------------------------------------------------- steps and clean-up

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
  close_machines
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
  [[ -z $log ]] || { echo "--- last Bazel run:"; cut -c 1-300 "$log" | grep -v '^[0-9]*$' | tail -n 40; }
  [[ ! -e $work/server.log.err ]] || { echo "--- server:"; tail -n 40 "$work/server.log.err"; }
}

# ---------------------------------------------------------------- Bazel

# Debian's binary is `bazel-4`, and does not know its version. A `bazel` must say that it is one,
# in a directory without a .bazelversion, or a wrapper would look for another.
find_bazel() {
  if command -v bazel-4 >/dev/null; then
    bazel='bazel-4'
  elif [[ $(cd / && bazel --version 2>/dev/null) == 'bazel 4.'* ]]; then
    bazel='bazel'
  else
    return 1
  fi
}

install_bazel() {
  local -a as_root=()
  find_bazel && return 0
  [[ $(id -u) -eq 0 ]] || as_root=(sudo)
  "${as_root[@]}" apt-get update -q >"$work/logs/apt.log" 2>&1 </dev/null
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -q -y --no-install-recommends bazel-bootstrap >>"$work/logs/apt.log" 2>&1 </dev/null
  find_bazel
}

base() {
  echo "$work/machine-$machine"
}

# in_bazel COMMAND ARGS...: on the current machine. Debian's own rc file must be read (it says
# where Bazel's parts are); the user's must not.
in_bazel() {
  local command=$1
  shift
  (cd "$work/ws" && "$bazel" --nohome_rc --noworkspace_rc --max_idle_secs=120 \
    --host_jvm_args=-Xmx1g --output_user_root="$work/user" --output_base="$(base)" \
    "$command" "$@") </dev/null 3>&- 4>&-
}

# A new machine is a fresh output base: no local outputs, no local action cache. The earlier one
# is wiped, which also keeps the disk use of the whole run near one build.
new_machine() {
  close_machines
  machine=$((machine + 1))
  open_bases=("$machine")
}

close_machines() {
  local machine # in_bazel reads it
  for machine in "${open_bases[@]}"; do
    in_bazel shutdown >/dev/null 2>&1 || true
    [[ -n ${KEEP:-} ]] || { chmod -R u+w "$(base)"; rm -rf "$(base)"; } 2>/dev/null || true
  done
  open_bases=()
}

# run_unchecked LABEL COMMAND ARGS...: with the cache. Leaves its output in the file `$log`, its
# remote calls in `$calls`, its exit status in `$status`.
run_unchecked() {
  local label=$1 command=$2 name
  shift 2
  log="$work/logs/$machine-$label.log" calls="$work/logs/$machine-$label.calls" status=0
  local -a flags=(
    --remote_cache="grpc://$server_address"
    --experimental_remote_grpc_log="$calls"
    --nosandbox_debug --spawn_strategy=local # the action keys do not depend on the output base
    --incompatible_strict_action_env         # nor on the caller's PATH
    --symlink_prefix=/ --color=no --curses=no --noshow_progress
  )
  for name in rules_cc rules_java rules_proto remote_coverage_tools; do
    flags+=(--override_repository="$name=$work/stubs/$name")
  done
  in_bazel "$command" "${flags[@]}" "$@" >"$log" 2>&1 || status=$?
}

# The same, and nothing may go wrong: neither the build nor, unnoticed, the cache.
run_bazel() {
  run_unchecked "$@"
  if [[ $status -ne 0 ]]; then
    echo "bazel $2 exited with $status" >&2
    return 1
  fi
  require_no_cache_errors "$log"
  require_no_panic "$work/server.log"
}

bazel_out() {
  echo "$(base)/execroot/castellan_e2e/bazel-out"
}

output() {
  find "$(bazel_out)" -path "*-fastbuild/bin/$1" -print -quit
}

# ---------------------------------------------------------------- what each step does

generate_workspace() {
  "$here/workspace.sh" "$work"
}

load_own_build_files() {
  "$here/build_files.sh" "$bazel" "$work" >"$work/logs/own-build-files.log" 2>&1
}

start() {
  start_server "$castellan" "$work/store" "$work/server.log"
}

# Executes what the cache gave back. Bazel makes every output 0555 itself, so the bits in the
# results are compared by `require_same_results`; this shows that the bytes are programs.
run_outputs() {
  [[ $("$(output cc/app)") == "app says 47" ]]
  [[ $("$(output tree/dir)/bin/run.sh") == leaf ]]
  [[ $("$(output tool/greet.sh)" you) == "greetings to you" ]]
  [[ $(stat -c %s "$(output big/big.bin)") -eq 100000007 ]]
}

# What an action printed is in its result: a hit prints it again.
require_replayed_output() {
  grep -q '^e2e-stdout-marker$' "$1"
  grep -q '^e2e-stderr-marker$' "$1"
  grep -q '^20000$' "$1"
}

# The results that this machine was given are those that the filling build stored: paths,
# executable bits, digests.
require_same_results() {
  "$here/grpc_log.py" found "$calls" >"$work/found"
  if ! diff "$work/stored" "$work/found" >"$work/results.diff"; then
    echo "action results differ (< stored, > found):" >&2
    head -n 20 "$work/results.diff" >&2
    return 1
  fi
}

fill() {
  new_machine
  run_bazel fill test //...
  require_no_hits "$log"
  expected_hits=$(count_of "$log" local)
  [[ $expected_hits -gt 330 ]]
  require_replayed_output "$log"
  run_outputs
  record_outputs "$(bazel_out)" >"$work/outputs"
  cat "$(output big/big.bin)" "$(output tool/greeting.txt)" | sha256sum >"$work/late.want"
  "$here/grpc_log.py" stored "$calls" >"$work/stored"
  grep -q ' f x .*/tool/greet.sh ' "$work/stored"
  grep -q ' f - .*/tiny/tiny7.txt ' "$work/stored"
  grep -q ' d - .*/tree/dir ' "$work/stored"
}

rebuild_from_cache() {
  new_machine
  run_bazel rebuild test //...
  require_all_hits "$log" "$expected_hits"
  require_replayed_output "$log"
  run_outputs
  record_outputs "$(bazel_out)" >"$work/outputs.again"
  require_same_outputs "$work/outputs" "$work/outputs.again"
  require_same_results
  [[ -z $("$here/grpc_log.py" uploads "$calls") ]]
}

# Builds without the bytes: the results alone must do.
rebuild_minimal() {
  new_machine
  run_bazel minimal test //... --remote_download_minimal
  require_all_hits "$log" "$expected_hits"
  require_same_results
  [[ -z $(output big/big.bin) && -z $(output cc/app) ]]
}

# A local action on the machine that has no bytes needs some of them: they must still be there.
fetch_for_local_action() {
  run_bazel late build //late --remote_download_minimal
  [[ $(count_of "$log" local) -eq 1 ]]
  # Bazel deletes what it fetched for the action, so the inputs are the first build's.
  cmp "$work/late.want" "$(output late/late.txt)"
}

fetch_toplevel() {
  run_bazel toplevel build //... --remote_download_toplevel
  [[ -z $(work_done "$log") ]]
  run_outputs
  rm -f "$(output late/late.txt)"
  record_outputs "$(bazel_out)" >"$work/outputs.some"
  require_subset_of_outputs "$work/outputs" "$work/outputs.some"
}

restart_after_term() {
  stop_server
  start
}

restart_after_kill() {
  kill_server
  start
}

# Files may vanish while du reads.
store_kib() {
  du -sk "$work/store" 2>/dev/null | cut -f 1 || true
}

# Kills the server while a build uploads to it. Bazel builds on without it.
kill_during_uploads() {
  local before tries build
  before=$(store_kib)
  new_machine
  run_unchecked crash build //crash --remote_retries=0 &
  build=$!
  for ((tries = 0; tries < 300; tries++)); do
    [[ $(store_kib) -lt $((before + 8000)) ]] || break
    sleep 0.1
  done
  kill_server
  if [[ $tries -eq 300 ]]; then
    echo "nothing was uploaded within 30 s" >&2
    return 1
  fi
  wait "$build"
  start
}

# What was stored before the kill is whole or absent: the same build can use it, and completes it.
rebuild_after_crash() {
  local stored
  new_machine
  run_bazel after-crash build //crash
  stored=$(count_of "$log" 'remote cache hit')
  echo "      $stored results of the interrupted build were kept"
  new_machine
  run_bazel after-crash-again build //crash
  require_all_hits "$log" "$CRASH_ACTIONS"
}

# Results are kept apart by instance name, blobs are shared: the first build under a new name
# finds nothing, and yet has nothing to upload.
fill_instance() {
  new_machine
  run_bazel fill-instance build //... --remote_instance_name=projects/p/instances/default
  require_no_hits "$log"
  instance_hits=$(count_of "$log" local)
  if [[ -n $("$here/grpc_log.py" uploads "$calls") ]]; then
    echo "blobs were uploaded again: $("$here/grpc_log.py" uploads "$calls" | wc -l)" >&2
    return 1
  fi
}

rebuild_instance() {
  new_machine
  run_bazel rebuild-instance build //... --remote_instance_name=projects/p/instances/default
  require_all_hits "$log" "$instance_hits"
  run_outputs
}

# ---------------------------------------------------------------- the run

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

main() {
  work=$(mktemp -d -t castellan-e2e.XXXXXX)
  mkdir "$work/logs"
  exec 3>&1 4>&2
  trap on_exit EXIT
  # The innermost failing command; the functions around it fail after it.
  trap '[[ -n $failed_at ]] || failed_at="${FUNCNAME[*]}, line $LINENO: $BASH_COMMAND"' ERR
  trap 'exit 130' INT TERM
  find_castellan "$@"

  step "the checks can fail" "$here/checks_test.sh"
  step "Bazel 4 is installed" install_bazel
  step "an offline workspace is generated" generate_workspace
  step "Bazel loads this repository's own BUILD files" load_own_build_files
  step "the server is ready on an empty directory" start
  step "a build fills the empty cache" fill
  step "a new machine hits every action, same bytes" rebuild_from_cache
  step "a new machine hits every action without downloading" rebuild_minimal
  step "a local action then fetches its inputs" fetch_for_local_action
  step "the top-level outputs can be fetched later" fetch_toplevel
  step "SIGTERM drains and exits 0; it starts again" restart_after_term
  step "after the restart a new machine hits every action" rebuild_from_cache
  step "after the restart so does one without downloading" rebuild_minimal
  step "the server is killed with -9; it starts again" restart_after_kill
  step "after kill -9 a new machine hits every action" rebuild_from_cache
  step "after kill -9 so does one without downloading" rebuild_minimal
  step "the server is killed while a build uploads; it starts again" kill_during_uploads
  step "the interrupted build can be completed and then hits" rebuild_after_crash
  step "the other results are all still there" rebuild_from_cache
  step "another instance name has no results but shares blobs" fill_instance
  step "that instance name then hits every action" rebuild_instance
  step "SIGTERM drains and exits 0" stop_server

  echo "e2e bazel: $passed passed, 0 failed"
  echo "$passed passed, 0 failed"
}

main "$@"
