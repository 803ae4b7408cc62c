#!/usr/bin/env bash
# A real Bazel build is cached over HTTP: one machine fills the empty cache, a new one hits every
# action with the same bytes, over HTTP and over gRPC, which is one cache.
#
#   tests/e2e/bazel_http.sh [BINARY]
#
# See steps.sh and bazel.sh: the same workspace, the same Bazel, the same judge.
set -Eeuo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/e2e/steps.sh
source "$here/steps.sh"
# shellcheck source=tests/e2e/machines.sh
source "$here/machines.sh"

rebuild() {
  protocol=$1
  new_machine
  run_bazel "rebuild-$protocol" test //...
  require_all_hits "$log" "$expected_hits"
  require_replayed_output "$log"
  run_outputs
  record_outputs "$(bazel_out)" >"$work/outputs.again"
  require_same_outputs "$work/outputs" "$work/outputs.again"
}

main() {
  begin bazel-http "$@"
  protocol=http

  step "Bazel 4 is installed" install_bazel
  step "an offline workspace is generated" generate_workspace
  step "the server is ready on an empty directory" start
  step "a build fills the empty cache over HTTP" fill
  step "a new machine hits every action over HTTP, same bytes" rebuild http
  step "another hits every action over gRPC, same bytes" rebuild grpc
  step "SIGTERM drains and exits 0" stop_server
  finish
}

main "$@"
