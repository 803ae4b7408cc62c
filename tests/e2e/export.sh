#!/usr/bin/env bash
# A real Bazel build is carried to another site: what one build has stored is exported by the log of
# its calls, imported into an empty server, and a new machine there hits every action, same bytes.
# So does one whose server got the results from the first one over gRPC, over HTTP, or from its
# directory.
#
#   tests/e2e/export.sh [BINARY]
#
# See steps.sh and bazel.sh: the same workspace, the same Bazel, the same judge.
set -Eeuo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/e2e/steps.sh
source "$here/steps.sh"
# shellcheck source=tests/e2e/machines.sh
source "$here/machines.sh"

origin_pid='' origin_grpc='' origin_http=''

fill_for_export() {
  fill
  cp "$calls" "$work/fill.calls"
}

export_build() {
  "$castellan" export --server "grpc://$server_address" --closure-of-grpc-log "$work/fill.calls" \
    "$work/build.tar" >"$work/logs/export.log" 2>&1
  grep -q "^exported: " "$work/logs/export.log"
  "$here/grpc_log.py" stored "$work/fill.calls" | cut -d ' ' -f 1 | sort -u >"$work/actions"
  [[ $(tar -tf "$work/build.tar" | grep -c '^actions/') -eq $(wc -l <"$work/actions") ]]
}

# The same by what the directory names, from the running server.
export_directory() {
  "$castellan" export --server "grpc://$server_address" --closure-of-dir "$work/store" - \
    2>"$work/logs/export-dir.log" >"$work/directory.tar"
  cmp <(tar -tf "$work/build.tar" | sort) <(tar -tf "$work/directory.tar" | sort)
}

# The first server goes on beside another one.
start_elsewhere() {
  if [[ -z $origin_pid ]]; then
    origin_pid=$server_pid origin_grpc=$server_address origin_http=$server_http_address
  fi
  start_server "$castellan" "$work/$1" "$work/server.log"
}

# import LABEL ARGS...
import() {
  local label=$1
  shift
  "$castellan" import --server "grpc://$server_address" "$@" >"$work/logs/import-$label.log" 2>&1
}

rebuild() {
  new_machine
  run_bazel "rebuild-$1" test //...
  require_all_hits "$log" "$expected_hits"
  require_replayed_output "$log"
  run_outputs
  record_outputs "$(bazel_out)" >"$work/outputs.again"
  require_same_outputs "$work/outputs" "$work/outputs.again"
}

# What is there is not sent again.
import_again() {
  import archive-again "$work/build.tar"
  grep -q '^taken: 0 blobs, 0 B, 0 results$' "$work/logs/import-archive-again.log"
}

stop_elsewhere() {
  stop_server
  rm -rf "${work:?}/$1"
}

# Ends the first server, and leaves the one that runs beside it.
stop_origin() {
  local other=$server_pid
  server_pid=$origin_pid
  stop_server
  server_pid=$other origin_pid=''
}

close_clients() {
  close_machines
  [[ -z $origin_pid ]] || kill -9 "$origin_pid"
}

main() {
  begin export "$@"

  step "Bazel 4 is installed" install_bazel
  step "an offline workspace is generated" generate_workspace
  step "the server is ready on an empty directory" start
  step "a build fills the empty cache" fill_for_export
  step "the build is exported by the log of its calls" export_build
  step "the directory names the same" export_directory

  step "another server is ready on an empty directory" start_elsewhere archive
  step "it takes the archive" import archive "$work/build.tar"
  step "a new machine there hits every action, same bytes" rebuild archive
  step "a second import sends nothing" import_again
  step "SIGTERM drains and exits 0" stop_elsewhere archive

  step "a third server is ready" start_elsewhere grpc
  step "it takes the results over gRPC" import grpc --actions "$work/actions" "grpc://$origin_grpc"
  step "a new machine there hits every action, same bytes" rebuild grpc
  step "SIGTERM drains and exits 0" stop_elsewhere grpc

  step "a fourth server is ready" start_elsewhere http
  step "it takes the results over HTTP" import http --actions "$work/actions" "http://$origin_http"
  step "a new machine there hits every action, same bytes" rebuild http
  step "SIGTERM drains and exits 0" stop_elsewhere http

  step "a fifth server is ready" start_elsewhere directory
  step "SIGTERM stops the first one" stop_origin
  step "the fifth takes its directory" import directory "$work/store"
  step "a new machine there hits every action, same bytes" rebuild directory
  step "SIGTERM drains and exits 0" stop_server
  finish
}

main "$@"
