#!/usr/bin/env bash
# curl asks the HTTP listener what other clients rarely do: parts, wrong hashes, missing lengths,
# names that climb. What a client sees on the wire, down to the status.
#
#   tests/e2e/curl.sh [BINARY]
#
# See steps.sh. Needs curl and sha256sum.
set -Eeuo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/e2e/steps.sh
source "$here/steps.sh"

readonly EMPTY=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
body='' # of the last answer

install_curl() {
  command -v curl >/dev/null || install curl
}

write_files() {
  body="$work/body"
  head -c 3000000 /dev/urandom >"$work/blob"
  hash=$(sha256sum <"$work/blob" | cut -d ' ' -f 1)
  other=$(sha256sum <<<other | cut -d ' ' -f 1)
}

# ask STATUS PATH ARGS...: the answer must have that status; its body is in the file `$body`, its
# head in `$body.head`.
ask() {
  local want=$1 path=$2 got
  shift 2
  got=$(curl -sS --path-as-is --max-time 30 -D "$body.head" -o "$body" -w '%{http_code}' "$@" \
    "http://$server_http_address$path")
  equals "$want" "$got" "$path $*"
}

# header NAME: of the last answer, without the line's end.
header() {
  sed -nE "s/^$1: *([^\r]*)\r?$/\1/Ip" "$body.head" | tail -n 1
}

probes() {
  ask 200 /livez
  ask 200 /readyz
}

blobs() {
  ask 404 "/cas/$hash"
  ask 404 "/cas/$hash" --head
  ask 200 "/cas/$EMPTY"
  [[ ! -s $body ]]
  ask 200 "/cas/$hash" -T "$work/blob"
  ask 200 "/cas/$hash"
  cmp "$work/blob" "$body"
  ask 200 "/cas/$hash" --head
  equals 3000000 "$(header Content-Length)" 'the length of a HEAD'
  # Below any instance name, and below an empty one.
  ask 200 "/some/instance/cas/$hash"
  ask 200 "//cas/$hash"
}

parts_of_a_blob() {
  ask 206 "/cas/$hash" -r 1000000-1999999
  cmp <(tail -c +1000001 "$work/blob" | head -c 1000000) "$body"
  equals 'bytes 1000000-1999999/3000000' "$(header Content-Range)" 'the range'
  ask 206 "/cas/$hash" -r -5
  cmp <(tail -c 5 "$work/blob") "$body"
  ask 416 "/cas/$hash" -r 3000000-
}

wrong_blobs() {
  ask 400 "/cas/$other" -T "$work/blob"
  ask 404 "/cas/$other"
  ask 400 "/cas/${hash^^}"
  ask 400 /cas/short
  ask 404 "/cas/$hash/more"
  ask 411 "/cas/$hash" -X PUT
  ask 405 "/cas/$hash" -X DELETE
}

# The bytes are the same when they travel as zstd.
compressed_blobs() {
  curl --version | grep -q zstd || { echo "      skipped: this curl has no zstd"; return 0; }
  ask 200 "/cas/$hash" --compressed -H 'Accept-Encoding: zstd'
  cmp "$work/blob" "$body"
}

results() {
  ask 404 "/ac/$other"
  # The encoding of a result with the exit code 1 and nothing else.
  printf '\x20\x01' >"$work/result"
  ask 200 "/ac/$other" -T "$work/result"
  ask 200 "/ac/$other"
  cmp "$work/result" "$body"
  ask 404 "/another/instance/ac/$other"
  # No result at all.
  ask 400 "/ac/$hash" -T "$work/blob"
  ask 404 "/ac/$hash"
}

# values PREFIX STATUS: what a write is answered with differs.
values() {
  local path=$1/some/key
  ask 404 "$path"
  ask "$2" "$path" -T "$work/blob"
  ask 200 "$path"
  cmp "$work/blob" "$body"
  ask 200 "$path" --head
  equals 3000000 "$(header Content-Length)" 'the length of a HEAD'
  ask 206 "$path" -r 10-19
  cmp <(tail -c +11 "$work/blob" | head -c 10) "$body"
  ask "$2" "$path" -X PUT --data-binary short -H 'Content-Type:'
  ask 200 "$path"
  equals short "$(cat "$body")" 'the later value'
  ask 411 "$path" -X PUT
  ask 411 "$path" -T "$work/blob" -H 'Transfer-Encoding: chunked'
  ask 405 "$path" -X POST -d x
  ask 400 "$1/../ac/$other"
  ask 400 "$1/%2e%2e/ac/$other"
  ask 204 "$path" -X DELETE
  ask 404 "$path" -X DELETE
  ask 404 "$path"
}

webdav() {
  ask 200 /webdav/ -X OPTIONS
  equals 1 "$(header DAV)" 'the class of WebDAV'
  ask 207 /webdav/some/ -X PROPFIND -H 'Depth: 1'
  grep -q '<D:collection/>' "$body"
  ask 404 /webdav/some/file -X PROPFIND -H 'Depth: 0'
  ask 201 /webdav/some/ -X MKCOL
  ask 201 /webdav/some/file -T "$work/result"
  ask 207 /webdav/some/file -X PROPFIND -H 'Depth: 0'
  grep -q '<D:getcontentlength>2</D:getcontentlength>' "$body"
  ask 405 /webdav/some/file -X MOVE -H 'Destination: /webdav/other'
}

# An upload that is cut off in the middle leaves nothing, and the room is free again.
cut_off() {
  local path=/gradle/cut
  curl -sS --limit-rate 500k --max-time 1 -T "$work/blob" "http://$server_http_address$path" \
    >/dev/null 2>&1 && return 1
  ask 404 "$path"
  ask 200 "$path" -T "$work/blob"
}

main() {
  begin curl "$@"
  step "curl is installed" install_curl
  step "files are generated" write_files
  step "the server is ready on an empty directory" start
  step "probes are answered" probes
  step "blobs are stored and found by their hash" blobs
  step "a part of a blob is that part" parts_of_a_blob
  step "what is no blob is refused" wrong_blobs
  step "a blob can be had compressed" compressed_blobs
  step "results are stored below their instance" results
  step "values of ccache are stored, replaced and removed" values /ccache 200
  step "values of Gradle are stored, replaced and removed" values /gradle 200
  step "values over WebDAV are stored, replaced and removed" values /webdav 201
  step "collections are there" webdav
  step "an upload that is cut off leaves nothing" cut_off
  step "SIGTERM drains and exits 0" stop_server
  require_no_panic "$work/server.log"
  finish
}

main "$@"
