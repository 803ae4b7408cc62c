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
# shellcheck source=tests/e2e/steps.sh
source "$here/steps.sh"
# shellcheck source=tests/e2e/machines.sh
source "$here/machines.sh"

readonly CRASH_ACTIONS=300 # in //crash, of workspace.sh

# ---------------------------------------------------------------- what each step does

load_own_build_files() {
  "$here/build_files.sh" "$bazel" "$work" >"$work/logs/own-build-files.log" 2>&1
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

fill_and_check() {
  fill
  require_replayed_output "$log"
  run_outputs
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

main() {
  begin bazel "$@"

  step "the checks can fail" "$here/checks_test.sh"
  step "Bazel 4 is installed" install_bazel
  step "an offline workspace is generated" generate_workspace
  step "Bazel loads this repository's own BUILD files" load_own_build_files
  step "the server is ready on an empty directory" start
  step "a build fills the empty cache" fill_and_check
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

  finish
}

main "$@"
