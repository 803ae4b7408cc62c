# Judges one Bazel run by its log and its outputs. Sourced; every function returns 0 or explains
# on stderr and returns 1. checks_test.sh is its test.
# shellcheck shell=bash

# A run's counts, from its last "INFO: 383 processes: 346 remote cache hit, 37 internal." line,
# as one "count kind" per line. Without such a line the run did not finish, which is an error.
process_counts() {
  local log=$1 summary
  summary=$(grep -E '^INFO: [0-9]+ process(es)?(:|\.)' "$log" | tail -n 1)
  if [[ -z $summary ]]; then
    echo "no summary line in $log" >&2
    return 1
  fi
  [[ $summary == *:*:* ]] || return 0 # "INFO: 0 processes."
  summary=${summary##*: }
  tr ',' '\n' <<<"${summary%.}" | sed -E 's/^ +//'
}

# How many processes of exactly this kind the run had.
count_of() {
  local log=$1 kind=$2
  process_counts "$log" | awk -v kind="$kind" '
    { count = $1; sub(/^[0-9]+ /, ""); if ($0 == kind) total += count }
    END { print total + 0 }'
}

# Kinds of processes other than cache hits and Bazel's own bookkeeping: the work that a complete
# cache would have saved.
work_done() {
  process_counts "$1" | grep -vE '^[0-9]+ (remote cache hit|internal)$' || true
}

# Every cacheable action of the run was a hit, and as many as the filling run executed: fewer
# would mean that some actions were not even asked for.
require_all_hits() {
  local log=$1 expected=$2 work hits
  process_counts "$log" >/dev/null || return 1
  work=$(work_done "$log")
  if [[ -n $work ]]; then
    echo "not every action was a hit: $(tr '\n' ',' <<<"$work")" >&2
    return 1
  fi
  hits=$(count_of "$log" 'remote cache hit')
  if [[ $hits -ne $expected ]]; then
    echo "expected $expected hits, got $hits" >&2
    return 1
  fi
}

# The run found nothing: it ran everything itself.
require_no_hits() {
  local log=$1 hits
  process_counts "$log" >/dev/null || return 1
  hits=$(count_of "$log" 'remote cache hit')
  if [[ $hits -ne 0 ]]; then
    echo "expected no hits, got $hits" >&2
    return 1
  fi
}

# Bazel reports a failing cache as a warning and builds on, so a green build proves nothing.
require_no_cache_errors() {
  local log=$1 found
  found=$(grep -nE \
    -e 'WARNING:.*([Rr]emote|[Cc]ache)' \
    -e '(Reading from|Writing to) [Rr]emote [Cc]ache' \
    -e 'BulkTransferException|CacheNotFoundException|StatusRuntimeException' \
    -e 'Lost inputs|no longer available|[Ff]ailed to fetch|DEADLINE_EXCEEDED|UNAVAILABLE' \
    "$log" || true)
  if [[ -n $found ]]; then
    echo "cache errors in $log:" >&2
    head -n 20 <<<"$found" >&2
    return 1
  fi
}

# One "sha256 path" and one "mode path" line for every output under a bazel-out directory,
# tree artifacts included. Left out: what names the output base (runfiles manifests), the build
# (status files), or whether the result was cached (test.cache_status).
record_outputs() {
  local bazel_out=$1
  (
    cd "$bazel_out" || exit
    find . -type f \
      ! -path './_tmp/*' ! -path './_actions/*' ! -path './*-status.txt' \
      ! -name MANIFEST ! -name '*.runfiles_manifest' ! -name test.cache_status -print0 |
      LC_ALL=C sort -z >../outputs.list
    xargs -0 sha256sum <../outputs.list
    xargs -0 stat -c '%a %n' <../outputs.list
    rm ../outputs.list
  )
}

# Two recordings name the same files, bytes and modes.
require_same_outputs() {
  local want=$1 got=$2
  if ! cmp -s "$want" "$got"; then
    echo "outputs differ (< first build, > this build):" >&2
    diff "$want" "$got" | head -n 20 >&2
    return 1
  fi
}

# Every line of `got` is in `want`: what a partial download did fetch is right.
require_subset_of_outputs() {
  local want=$1 got=$2 extra
  extra=$(LC_ALL=C comm -13 <(LC_ALL=C sort "$want") <(LC_ALL=C sort "$got"))
  if [[ -n $extra ]]; then
    echo "outputs that the first build did not have:" >&2
    head -n 20 <<<"$extra" >&2
    return 1
  fi
}
