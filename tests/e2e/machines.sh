# Real Bazel builds on new machines. Sourced after steps.sh. What they build is workspace.sh's.
# shellcheck shell=bash

bazel=''
protocol=grpc            # or http: how a machine talks to the cache
machine=0                # counts the output bases, each a "new machine"
expected_hits=0          # what the filling build executed
declare -a open_bases=() # output bases whose Bazel server may be running

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
  find_bazel && return 0
  install bazel-bootstrap
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

# Where the cache is, for $protocol.
cache_url() {
  case $protocol in
    grpc) echo "grpc://$server_address" ;;
    http) echo "http://$server_http_address" ;;
  esac
}

# run_unchecked LABEL COMMAND ARGS...: with the cache. Leaves its output in the file `$log`, its
# remote calls over gRPC in `$calls`, its exit status in `$status`.
run_unchecked() {
  local label=$1 command=$2 name
  shift 2
  log="$work/logs/$machine-$label.log" calls="$work/logs/$machine-$label.calls" status=0
  local -a flags=(
    --remote_cache="$(cache_url)"
    --nosandbox_debug --spawn_strategy=local # the action keys do not depend on the output base
    --incompatible_strict_action_env         # nor on the caller's PATH
    --symlink_prefix=/ --color=no --curses=no --noshow_progress
  )
  [[ $protocol != grpc ]] || flags+=(--experimental_remote_grpc_log="$calls")
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

# fill FLAGS...: the first build. It executes everything, and what came of it is recorded in the
# file `outputs`.
fill() {
  new_machine
  run_bazel fill test //... "$@"
  require_no_hits "$log"
  expected_hits=$(count_of "$log" local)
  [[ $expected_hits -gt 330 ]]
  record_outputs "$(bazel_out)" >"$work/outputs"
}

bazel_out() {
  echo "$(base)/execroot/castellan_e2e/bazel-out"
}

output() {
  find "$(bazel_out)" -path "*-fastbuild/bin/$1" -print -quit
}

generate_workspace() {
  "$here/workspace.sh" "$work"
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

close_clients() {
  close_machines
}
