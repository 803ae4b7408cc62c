#!/usr/bin/env bash
# A real ccache finds on a new machine what another has compiled, in each of its HTTP layouts.
#
#   tests/e2e/ccache.sh [BINARY]
#
# See steps.sh. Installs Debian's ccache 4.7 with apt-get when no ccache 4.7 or newer is there.
set -Eeuo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/e2e/steps.sh
source "$here/steps.sh"

log=''

# 4.7 is the first with `remote_storage`.
has_ccache() {
  command -v ccache >/dev/null || return 1
  [[ $(printf '%s\n' 4.7 "$(ccache --version | sed -nE '1s/.* ([0-9.]+).*/\1/p')" |
    sort -V | head -n 1) == 4.7 ]]
}

install_ccache() {
  has_ccache || install ccache
  has_ccache
}

write_sources() {
  local i
  mkdir "$work/src"
  for i in 1 2 3 4 5; do
    printf '#include <stdio.h>\nint f%d(int x) { printf("%%d", x); return x * %d; }\n' "$i" "$i" \
      >"$work/src/f$i.c"
  done
  # An object of 12 MB that does not compress: more than one chunk each way.
  {
    echo 'const unsigned numbers[] = {'
    awk 'BEGIN { srand(7); for (i = 0; i < 400000; i++) printf "%du,", int(rand() * 4294967295) }'
    echo '};'
  } >"$work/src/large.c"
}

# in_ccache LAYOUT ARGS...: with nothing but the remote storage, and no settings of the user's.
in_ccache() {
  local layout=$1
  shift
  env -i PATH="$PATH" HOME="$work" TMPDIR="$work" CCACHE_CONFIGPATH=/dev/null \
    CCACHE_DIR="$work/local" CCACHE_REMOTE_ONLY=1 CCACHE_BASEDIR="$work" CCACHE_NOHASHDIR=1 \
    CCACHE_REMOTE_STORAGE="http://$server_http_address/ccache|layout=$layout" \
    CCACHE_LOGFILE="$log" ccache "$@"
}

count_of_stat() {
  in_ccache "$1" --print-stats | awk -v name="$2" '$1 == name { print $2 }'
}

# compile LAYOUT LABEL: on a machine that has compiled nothing before.
compile() {
  local layout=$1 label=$2 source
  log="$work/logs/$layout-$label.log"
  rm -rf "$work/local"
  mkdir -p "$work/$layout-$label"
  for source in "$work"/src/*.c; do
    in_ccache "$layout" "${CC:-gcc}" -O0 -c "$source" \
      -o "$work/$layout-$label/$(basename "$source" .c).o"
  done
  equals 0 "$(count_of_stat "$layout" remote_storage_error)" 'errors of the remote storage'
  equals 0 "$(count_of_stat "$layout" remote_storage_timeout)" 'timeouts of the remote storage'
}

miss_then_hit() {
  local layout=$1
  compile "$layout" first
  equals 6 "$(count_of_stat "$layout" cache_miss)" 'misses of the first machine'
  compile "$layout" second
  equals 0 "$(count_of_stat "$layout" cache_miss)" 'misses of the second machine'
  equals 6 "$(count_of_stat "$layout" direct_cache_hit)" 'hits of the second machine'
  equals 6 "$(count_of_stat "$layout" remote_storage_hit)" 'remote hits of the second machine'
  diff -r "$work/$layout-first" "$work/$layout-second"
}

# What ccache stores is no action result, whatever its key looks like.
values_are_no_action_results() {
  local key status
  key=$(sed -nE 's/.*Stored ([0-9a-z]+) in http.*/\1/p' "$work/logs/flat-first.log" | head -n 1)
  [[ -n $key ]]
  status=$(curl -s -o /dev/null -w '%{http_code}' "http://$server_http_address/ccache/$key")
  equals 200 "$status" "the value of $key"
  [[ -z $(find "$work/store/actions" "$work/store/blobs" -type f) ]]
}

hit_again() {
  compile "$1" third
  equals 6 "$(count_of_stat "$1" remote_storage_hit)" 'remote hits after the restart'
}

main() {
  begin ccache "$@"
  step "ccache 4.7 is installed" install_ccache
  step "sources are generated" write_sources
  step "the server is ready on an empty directory" start
  for layout in bazel flat subdirs; do
    step "layout=$layout: a second machine hits everything, same bytes" miss_then_hit "$layout"
  done
  step "what it has stored is no action result" values_are_no_action_results
  step "SIGTERM drains and exits 0" stop_server
  step "it starts again" start
  step "a machine hits everything after the restart" hit_again bazel
  step "SIGTERM drains and exits 0" stop_server
  finish
}

main "$@"
