#!/usr/bin/env bash
# A real Bazel build is all hits on what another server has left: what one build has stored is laid
# out as NativeLink and bazel-remote keep it, Castellan starts on that, and a new machine hits every
# action, same bytes.
#
#   tests/e2e/former.sh [BINARY]
#
# See steps.sh and bazel.sh: the same workspace, the same Bazel, the same judge.
set -Eeuo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/e2e/steps.sh
source "$here/steps.sh"
# shellcheck source=tests/e2e/machines.sh
source "$here/machines.sh"

readonly INSTANCE='projects/p' # whose results bazel-remote keeps apart
former_cache=''                # lays directories out

build_former_cache() {
  cd "$repository"
  cargo build --locked --example former_cache >"$work/logs/former-cache.log" 2>&1
  former_cache=$(realpath "${CARGO_TARGET_DIR:-target}/debug/examples/former_cache")
}

# lay_out LAYOUT DIR ARGS...
lay_out() {
  local layout=$1 dir=$2
  shift 2
  "$former_cache" lay-out --layout "$layout" --from "$work/store" "$@" "$dir" \
    >"$work/logs/lay-out.log" 2>&1
  grep -q ', 0 results left out ' "$work/logs/lay-out.log"
}

start_on_nativelink() {
  lay_out nativelink "$work/nativelink/cas"
  lay_out nativelink-ac "$work/nativelink/ac"
  start_server_of "$repository/deployment/examples/filesystem.json5" "$castellan" \
    "$work/nativelink" "$work/server.log"
}

# start_on_bazel_remote LAYOUT INSTANCE FLAGS...
start_on_bazel_remote() {
  local layout=$1 instance=$2
  # shellcheck disable=SC2034
  local server_http_flag=--http_address
  shift 2
  lay_out "$layout" "$work/$layout" --instance "$instance"
  launch_server "$castellan" "$work/server.log" --compat=bazel-remote --dir "$work/$layout" \
    --max_size 4 --grpc_address 127.0.0.1:0 "$@"
}

rebuild() {
  local label=$1
  shift
  new_machine
  run_bazel "rebuild-$label" test //... "$@"
  require_all_hits "$log" "$expected_hits"
  require_replayed_output "$log"
  run_outputs
  record_outputs "$(bazel_out)" >"$work/outputs.again"
  require_same_outputs "$work/outputs" "$work/outputs.again"
}

# What other servers had is Castellan's by now, or nobody's.
stop_elsewhere() {
  stop_server
  rm -rf "${work:?}/$1"
}

main() {
  begin former "$@"

  step "what lays directories out is built" build_former_cache
  step "Bazel 4 is installed" install_bazel
  step "an offline workspace is generated" generate_workspace
  step "the server is ready on an empty directory" start
  step "a build fills the empty cache" fill
  step "SIGTERM drains and exits 0" stop_server

  step "NativeLink's file and directories are served" start_on_nativelink
  step "a new machine hits every action, same bytes" rebuild nativelink --remote_instance_name=main
  step "SIGTERM drains and exits 0" stop_elsewhere nativelink

  step "bazel-remote's directory is served by its flags" start_on_bazel_remote bazel-remote ''
  step "a new machine hits every action, same bytes" rebuild bazel-remote
  step "SIGTERM drains and exits 0" stop_elsewhere bazel-remote

  step "one that keeps the results of instances apart is served" \
    start_on_bazel_remote bazel-remote-v1 "$INSTANCE" --enable_ac_key_instance_mangling
  step "a new machine hits every action, same bytes" \
    rebuild mangled --remote_instance_name="$INSTANCE"
  step "SIGTERM drains and exits 0" stop_server
  finish
}

main "$@"
