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
another_worker=''    # its process group, while it is there
foreign=''           # what is not the worker's in the worker root

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

# create_action FLAGS... -- ARGV...: as any build machine does; prints its digest.
create_action() {
  castellan action create --input-root "$inputs" --env PATH=/usr/bin:/bin "$@"
}

compile_action() {
  create_action --output out/app -- ./tool.sh cc -I. -o out/app app/main.c lib/greet.c
}

# answered DIR ACTION: where the worker says what came of it, if not in the cache.
answered() {
  echo "$work/queue/$1/${2/\//-}"
}

# work_on ACTION: lets the worker do it. Whatever comes of it, nothing is left of it but an answer.
work_on() {
  mkdir -p "$work/queue" "$work/elsewhere-cwd"
  touch "$work/queue/${1/\//-}"
  (cd "$work/elsewhere-cwd" && bash "$WORKER" ../queue) >"$work/logs/worker.log" 2>&1
  equals $'done\nfailed' "$(ls -A "$work/queue")" 'what is in the queue afterwards'
  equals '' "$(ls -A "$work/elsewhere-cwd")" 'what commands leave in the directory of the worker'
  equals "$foreign" "$(in_root)" 'what is left of trees'
}

# in_root: what is in the worker root beside the place of the server's unfinished trees.
in_root() {
  ls -A --ignore=.castellan-staging "$work/root" | xargs
}

# has_no_result ACTION
has_no_result() {
  local status=0
  castellan action result "$1" >"$work/logs/no-result.log" 2>&1 || status=$?
  equals 2 "$status" 'the exit code where there is no result'
}

# is_cached ACTION: it has a result, and nothing is said of it in the queue.
is_cached() {
  [[ ! -e $(answered failed "$1") && ! -e $(answered done "$1") ]]
  castellan action result "$1" --download "$work/result-${1%/*}" >"$work/result.json"
}

# is_failed ACTION TEXT: it has none, and the queue says why.
is_failed() {
  has_no_result "$1"
  grep -q "$2" "$(answered failed "$1")"
  grep -q "$2" "$work/logs/worker.log"
}

a_worker_compiles() {
  compile=$(compile_action)
  has_no_result "$compile"
  work_on "$compile"
  castellan action result "$compile" --download "$work/first" >"$work/result.json"
  equals hello "$("$work/first/out/app")" 'what the program says'
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
  action=$(create_action --output generated -- sh -c 'mkdir -p generated/deep; echo 1 >generated/deep/one; ln -s deep/one generated/link')
  work_on "$action"
  castellan action result "$action" --download "$work/third" >/dev/null
  equals 1 "$(cat "$work/third/generated/link")" 'what a link in an output directory leads to'
}

outputs_are_relative_to_the_working_directory() {
  local action
  action=$(create_action --workdir app --output main.o --output deep/er/x -- \
    sh -c 'cc -I.. -c main.c && echo 1 >deep/er/x')
  work_on "$action"
  is_cached "$action"
  equals 'deep/er/x main.o' "$(jq -r '.files[].path' "$work/result.json" | sort | xargs)" 'the outputs'
}

outputs_are_not_needed() {
  local action
  action=$(create_action -- sh -c 'echo said')
  work_on "$action"
  is_cached "$action"
  equals said "$(castellan cat "$(jq -r .stdout_digest "$work/result.json")")" 'what it said'
}

an_action_that_fails_is_not_cached() {
  local action
  action=$(create_action --output out/x -- cc -o out/x missing.c)
  work_on "$action"
  is_failed "$action" 'missing.c'
  action=$(create_action --output x -- no-such-command)
  work_on "$action"
  is_failed "$action" 'no-such-command'
}

# start_another_worker: a worker on a queue of its own, in the middle of an action.
start_another_worker() {
  local action
  action=$(create_action --output x -- sh -c "chmod 0555 lib; echo \$\$ >'$work/pid.new'; mv '$work/pid.new' '$work/pid'; exec sleep 1000")
  mkdir -p "$work/other"
  touch "$work/other/${action/\//-}"
  setsid bash "$WORKER" "$work/other" >"$work/logs/other.log" 2>&1 &
  another_worker=$!
  disown # or the shell says that it was killed
  await [ -e "$work/pid" ]
}

# await COMMAND...: until it succeeds.
await() {
  local tries
  for ((tries = 0; tries < 600; tries++)); do
    ! "$@" || return 0
    sleep 0.1
  done
  echo "never came true: $*" >&2
  return 1
}

close_clients() {
  # The group of one, or one in the group of this script.
  [[ -z $another_worker ]] || kill -9 -- "-$another_worker" 2>/dev/null ||
    kill -9 "$another_worker" 2>/dev/null
  [[ ! -e $work/pid ]] || kill -9 "$(<"$work/pid")" 2>/dev/null
}

# What is locked is not gone: not even what a killed worker's action still works in.
what_a_killed_worker_left_goes() {
  local action mine='action-other castellan-worker.sh-other' left
  mkdir -p "$work/root/action-other/sub" "$work/root/castellan-worker.sh-other/1"
  start_another_worker
  left=$(basename "$(echo "$work/root"/castellan-worker.sh-??????????)")
  foreign=$(xargs -n 1 <<<"$mine $left" | sort | xargs)
  action=$(create_action --output live -- touch live)
  work_on "$action"
  is_cached "$action"
  kill -9 -- "-$another_worker"
  action=$(create_action --output orphan -- touch orphan)
  work_on "$action"
  is_cached "$action"
  kill -9 "$(<"$work/pid")"
  await flock -n "$work/root/$left/lock" true
  foreign=$mine
  action=$(create_action --output gone -- touch gone)
  work_on "$action"
  is_cached "$action"
  rm -r "$work/other" "$work/pid"
  another_worker=''
  rm -r "$work/root"/*-other
  foreign=''
}

# What is under way has its result first.
sigterm_ends_a_worker_well() {
  local action
  rm -f "$work/pid"
  action=$(create_action --output x -- sh -c "echo \$\$ >'$work/pid'; while [ -e '$work/pid' ]; do sleep 0.1; done; touch x")
  mkdir -p "$work/other"
  touch "$work/other/${action/\//-}"
  CASTELLAN_WORKER_ONCE='' bash "$WORKER" "$work/other" >"$work/logs/other.log" 2>&1 &
  another_worker=$!
  await [ -s "$work/pid" ]
  kill -TERM "$another_worker"
  rm "$work/pid"
  wait "$another_worker"
  another_worker=''
  is_cached "$action"
  equals $'done\nfailed' "$(ls -A "$work/other")" 'what is in the queue afterwards'
  equals '' "$(in_root)" 'what is left of trees'
}

# As when the server has been started anew meanwhile: there is none at the end of this action.
a_lease_that_ends_early_harms_nothing() {
  local action
  mkdir -p "$work/shim"
  cat >"$work/shim/castellan" <<END
#!/bin/sh
if [ "\$1" = release ]; then "$castellan" release "\$2"; fi
exec "$castellan" "\$@"
END
  chmod +x "$work/shim/castellan"
  action=$(create_action --output early -- touch early)
  PATH="$work/shim:$PATH" work_on "$action"
  is_cached "$action"
  rm "$work/shim/castellan"
}

an_action_ends_in_time() {
  local action
  action=$(create_action --timeout 100ms --output x -- sh -c 'touch x; exec sleep 1000')
  work_on "$action"
  is_failed "$action" 'exited with 124'
}

# `env` would take it for a variable, and run the rest.
a_command_is_no_variable() {
  local action
  action=$(create_action --output x -- A=b touch x)
  work_on "$action"
  is_failed "$action" 'no name of a command'
}

what_must_not_be_cached_is_not() {
  local action
  action=$(create_action --do-not-cache --output now -- sh -c 'echo now >now')
  work_on "$action"
  has_no_result "$action"
  equals now "$(castellan cat "$(jq -r '.files[0].digest' "$(answered done "$action")")")" 'the output'
}

# What an action needs cannot be had: its command is not run, least of all elsewhere.
no_command_runs_without_its_tree() {
  local action given=$inputs
  mkdir -p "$work/lacking/sub"
  echo kept >"$work/lacking/here"
  echo "$RANDOM gone" >"$work/lacking/sub/gone"
  ln -s / "$work/lacking/out-of-it"
  inputs=$(castellan upload --json "$work/lacking" | jq -r .digest)
  action=$(create_action --workdir nowhere --output x -- sh -c 'touch x')
  work_on "$action"
  is_failed "$action" nowhere
  action=$(create_action --workdir out-of-it --output x -- sh -c "touch '$work/elsewhere-cwd/x'")
  work_on "$action"
  is_failed "$action" 'leads out'
  action=$(create_action --output x -- sh -c "touch x '$work/elsewhere-cwd/x'")
  castellan purge --yes --dir "$work/data" --digest "$(castellan ls -R "$inputs" --json |
    jq -r 'select(.path == "sub/gone").digest')" >"$work/logs/purge.log"
  work_on "$action"
  is_failed "$action" missing
  inputs=$given
}

# Messages as every language writes them; bash has no NUL, and these have none.
varint() {
  local rest=$1
  while ((rest > 127)); do
    printf '%b' "$(printf '\\x%02x' $((rest & 127 | 128)))"
    rest=$((rest >> 7))
  done
  printf '%b' "$(printf '\\x%02x' "$rest")"
}

field() {
  varint $(($1 << 3 | 2))
  varint "$(printf %s "$2" | wc -c)"
  printf %s "$2"
}

digest_field() {
  field "$1" "$(field 1 "${2%/*}"; varint 16; varint "${2##*/}")"
}

# upload_message: stores what comes; prints its digest.
upload_message() {
  cat >"$work/message"
  castellan upload "$work/message" | cut -d ' ' -f 1
}

# hostile_action FIELD PATH: `castellan action create` would not make it.
hostile_action() {
  local command
  command=$({
    field 1 touch
    field 1 made
    field "$1" "$2"
  } | upload_message)
  { digest_field 1 "$command"; digest_field 2 "$inputs"; } | upload_message
}

what_leads_out_is_refused() {
  local action path
  for path in .. ../elsewhere-cwd app/../../.. /tmp; do
    action=$(hostile_action 6 "$path") # working_directory
    work_on "$action"
    is_failed "$action" 'leads out'
    action=$(hostile_action 7 "$path") # output_paths
    work_on "$action"
    is_failed "$action" 'leads out'
  done
}

inputs_cannot_be_changed_in_place() {
  local lease
  lease=$(castellan stage "$inputs" staged 2>"$work/logs/stage.log")
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
  step "outputs are relative to the working directory" outputs_are_relative_to_the_working_directory
  step "an action needs no outputs" outputs_are_not_needed
  step "an action that fails is not cached, and says why" an_action_that_fails_is_not_cached
  step "what a killed worker left goes" what_a_killed_worker_left_goes
  step "SIGTERM ends a worker well" sigterm_ends_a_worker_well
  step "a lease that ends early harms nothing" a_lease_that_ends_early_harms_nothing
  step "a command is no variable" a_command_is_no_variable
  step "an action ends when its time is over" an_action_ends_in_time
  step "what must not be cached is not" what_must_not_be_cached_is_not
  step "no command runs without its tree" no_command_runs_without_its_tree
  step "what leads out is refused" what_leads_out_is_refused
  step "a staged tree is links, and is given back" inputs_cannot_be_changed_in_place
  step "missing inputs are listed" missing_inputs_are_listed
  step "SIGTERM drains and exits 0" stop_server
  require_no_panic "$work/server.log"
  finish
}

main "$@"
