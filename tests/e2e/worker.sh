#!/usr/bin/env bash
# A worker in shell (deployment/worker) compiles and runs in trees of hard links, and a second
# build machine gets hits. Directories go up and come back as they were.
#
#   tests/e2e/worker.sh [BINARY]
#
# See steps.sh. Needs jq and a C compiler.
set -Eeuo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/e2e/steps.sh
source "$here/steps.sh"

readonly WORKER="$here/../../deployment/worker/worker.sh"
inputs='' compile='' # digests

# fails COMMAND...: it must not succeed.
fails() {
  if "$@"; then
    echo "succeeded: $*" >&2
    return 1
  fi
}

install_tools() {
  command -v jq >/dev/null || install jq
}

serve() {
  mkdir -p "$work/root"
  start_server "$castellan" "$work/data" "$work/server.log" --max-size 1GiB \
    --worker-listen "unix:$work/worker.sock" --worker-root "$work/root"
  export CASTELLAN_SERVER="grpc://$server_address" CASTELLAN_WORKER="unix:$work/worker.sock"
  export CASTELLAN_WORKER_ROOT="$work/root" CASTELLAN_WORKER_ONCE=1
  PATH="$(dirname "$castellan"):$PATH"
}

write_sources() {
  mkdir -p "$work/source/lib/empty" "$work/source/app"
  printf '#include "lib/greet.h"\nint main(void) { return greet(); }\n' >"$work/source/app/main.c"
  printf 'int greet(void);\n' >"$work/source/lib/greet.h"
  printf '#include <stdio.h>\nint greet(void) { return puts("hello") < 0; }\n' >"$work/source/lib/greet.c"
  printf '#!/bin/sh\nexec "$@"\n' >"$work/source/tool.sh"
  chmod +x "$work/source/tool.sh"
  ln -s lib/greet.h "$work/source/greet.h"
}

upload_sources() {
  inputs=$(castellan upload --json "$work/source" | jq -r .digest)
  [[ $inputs =~ ^[0-9a-f]{64}/[0-9]+$ ]]
  # A second time nothing is sent.
  equals 0 "$(castellan upload --json "$work/source" | jq -r .sent_bytes)" 'bytes sent again'
}

trees_come_back() {
  castellan download "dir:$inputs" "$work/copy"
  diff -r "$work/source" "$work/copy"
  [[ -x $work/copy/tool.sh && ! -x $work/copy/app/main.c && -L $work/copy/greet.h ]]
  [[ -d $work/copy/lib/empty ]]
  castellan ls -R "dir:$inputs" | grep -q 'lib/greet.c'
}

# create_action OUTPUT ARGV...: as any build machine does; prints its digest.
create_action() {
  local output=$1
  shift
  castellan action create --input-root "$inputs" --output "$output" --env PATH=/usr/bin:/bin -- "$@"
}

compile_action() {
  create_action out/app ./tool.sh cc -I. -o out/app app/main.c lib/greet.c
}

# work_on ACTION: lets the worker do it.
work_on() {
  mkdir -p "$work/queue"
  touch "$work/queue/${1/\//-}"
  bash "$WORKER" "$work/queue" >"$work/logs/worker.log" 2>&1
  [[ -z $(ls "$work/queue") ]]
}

a_worker_compiles() {
  compile=$(compile_action)
  fails castellan action result "$compile" >/dev/null
  work_on "$compile"
  castellan action result "$compile" --download "$work/first" >"$work/result.json"
  equals hello "$("$work/first/out/app")" 'what the program says'
  [[ -z $(ls "$work/root") ]]
}

# Same sources, same command, elsewhere: nothing is left to do.
another_machine_has_a_hit() {
  local again
  cp -r "$work/source" "$work/elsewhere"
  inputs=$(castellan upload --json "$work/elsewhere" | jq -r .digest)
  again=$(compile_action)
  equals "$compile" "$again" 'the digest of the same action'
  castellan action result "$again" --download "$work/second" >/dev/null
  cmp "$work/first/out/app" "$work/second/out/app"
}

a_directory_can_be_an_output() {
  local action
  action=$(create_action generated sh -c 'mkdir -p generated/deep; echo 1 >generated/deep/one; ln -s deep/one generated/link')
  work_on "$action"
  castellan action result "$action" --download "$work/third" >/dev/null
  equals 1 "$(cat "$work/third/generated/link")" 'what a link in an output directory leads to'
}

an_action_that_fails_says_so() {
  local failing
  failing=$(create_action out/x cc -o out/x missing.c)
  work_on "$failing"
  castellan action result "$failing" | jq -e '.exit_code != 0'
}

inputs_cannot_be_changed_in_place() {
  local lease
  lease=$(castellan stage "$inputs" staged --json | jq -r .lease_id)
  [[ -x $work/root/staged/tool.sh ]]
  equals 444 "$(stat -c %a "$work/root/staged/app/main.c")" 'the mode of an input'
  # The files of the tree are inodes of the store.
  find "$work/data" -samefile "$work/root/staged/app/main.c" | grep -q .
  castellan release "$lease" --remove
  [[ ! -e $work/root/staged ]]
  fails castellan release "$lease" 2>"$work/logs/release.log"
}

missing_inputs_are_listed() {
  local fake
  fake=$(printf 'f%.0s' {1..64})/123
  fails castellan stage "$fake" nowhere 2>"$work/logs/missing.log"
  grep -q "$fake" "$work/logs/missing.log"
  [[ ! -e $work/root/nowhere ]]
}

main() {
  begin worker "$@"
  step "jq is installed" install_tools
  step "the server is ready with the worker API" serve
  step "sources are generated" write_sources
  step "they are uploaded, the second time nothing is sent" upload_sources
  step "they come back as they were" trees_come_back
  step "a worker compiles in a tree of links" a_worker_compiles
  step "another machine has a hit" another_machine_has_a_hit
  step "an output can be a directory" a_directory_can_be_an_output
  step "an action that fails has a result" an_action_that_fails_says_so
  step "a staged tree is links, and is given back" inputs_cannot_be_changed_in_place
  step "missing inputs are listed" missing_inputs_are_listed
  step "SIGTERM drains and exits 0" stop_server
  require_no_panic "$work/server.log"
  finish
}

main "$@"
