#!/usr/bin/env bash
# Tests checks.sh: a check that cannot fail would make every run green.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source=tests/e2e/checks.sh
source ./checks.sh

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

accepts() {
  "$@" 2>/dev/null || { echo "should accept: $*"; exit 1; }
}
rejects() {
  if "$@" 2>/dev/null; then echo "should reject: $*"; exit 1; fi
}
log() {
  printf '%s\n' "$@" >"$dir/log"
}

log 'INFO: Elapsed time: 5.205s' 'INFO: 383 processes: 346 remote cache hit, 37 internal.'
accepts require_all_hits "$dir/log" 346
rejects require_all_hits "$dir/log" 347
rejects require_no_hits "$dir/log"

log 'INFO: 383 processes: 345 remote cache hit, 37 internal, 1 local.'
rejects require_all_hits "$dir/log" 345
rejects require_all_hits "$dir/log" 346

log 'INFO: 383 processes: 346 remote cache hit, 2 processwrapper-sandbox.'
rejects require_all_hits "$dir/log" 346

log 'INFO: 383 processes: 37 internal, 346 local.'
accepts require_no_hits "$dir/log"
[[ $(count_of "$dir/log" local) == 346 ]] || { echo "count_of local"; exit 1; }

log 'INFO: 1 process: 1 internal.'
accepts require_all_hits "$dir/log" 0
rejects require_all_hits "$dir/log" 1

log 'INFO: 0 processes.'
rejects require_all_hits "$dir/log" 1

# A run that was cut off has no summary: neither a hit nor a miss.
log 'ERROR: Build did NOT complete successfully'
rejects require_all_hits "$dir/log" 0
rejects require_no_hits "$dir/log"

log 'INFO: Build completed successfully, 383 total actions'
accepts require_no_cache_errors "$dir/log"
log 'WARNING: Reading from Remote Cache:'
rejects require_no_cache_errors "$dir/log"
log 'WARNING: Remote Cache: UNAVAILABLE: io exception'
rejects require_no_cache_errors "$dir/log"
log 'com.google.devtools.build.lib.remote.common.BulkTransferException'
rejects require_no_cache_errors "$dir/log"

mkdir -p "$dir/bazel-out/bin"
echo one >"$dir/bazel-out/bin/a"
echo two >"$dir/bazel-out/bin/b c"
record_outputs "$dir/bazel-out" >"$dir/first"
accepts require_same_outputs "$dir/first" "$dir/first"
chmod 755 "$dir/bazel-out/bin/a"
record_outputs "$dir/bazel-out" >"$dir/mode"
rejects require_same_outputs "$dir/first" "$dir/mode"
rejects require_subset_of_outputs "$dir/first" "$dir/mode"
chmod 644 "$dir/bazel-out/bin/a"
rm "$dir/bazel-out/bin/b c"
record_outputs "$dir/bazel-out" >"$dir/fewer"
rejects require_same_outputs "$dir/first" "$dir/fewer"
accepts require_subset_of_outputs "$dir/first" "$dir/fewer"
echo ONE >"$dir/bazel-out/bin/a"
record_outputs "$dir/bazel-out" >"$dir/bytes"
rejects require_same_outputs "$dir/fewer" "$dir/bytes"

echo "checks ok"
