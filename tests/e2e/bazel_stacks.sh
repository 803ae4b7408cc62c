#!/usr/bin/env bash
# A real Bazel build is cached by each of the stacks of stores that people run, from the files in
# deployment/examples: one machine fills the empty cache, a new one hits every action, same bytes.
#
#   tests/e2e/bazel_stacks.sh [BINARY]
#
# See steps.sh and bazel.sh: the same workspace, the same Bazel, the same judge.
set -Eeuo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/e2e/steps.sh
source "$here/steps.sh"
# shellcheck source=tests/e2e/machines.sh
source "$here/machines.sh"

readonly INSTANCE=--remote_instance_name=main

# start_stack NAME DIRECTORY
start_stack() {
  start_server_of "$repository/deployment/examples/$1.json5" "$castellan" "$work/$2" \
    "$work/server.log"
}

rebuild() {
  new_machine
  run_bazel "rebuild-$1" test //... "$INSTANCE"
  require_all_hits "$log" "$expected_hits"
  require_replayed_output "$log"
  run_outputs
  record_outputs "$(bazel_out)" >"$work/outputs.again"
  require_same_outputs "$work/outputs" "$work/outputs.again"
}

wipe() {
  rm -rf "${work:?}/$1"
}

main() {
  local stack
  begin bazel-stacks "$@"

  step "Bazel 4 is installed" install_bazel
  step "an offline workspace is generated" generate_workspace
  for stack in memory filesystem tiered dedup; do
    step "$stack: the server is ready" start_stack "$stack" "store-$stack"
    step "$stack: a build fills the empty cache" fill "$INSTANCE"
    step "$stack: a new machine hits every action, same bytes" rebuild "$stack"
    step "$stack: SIGTERM drains and exits 0" stop_server
    step "$stack: the directory is gone" wipe "store-$stack"
  done
  finish
}

main "$@"
