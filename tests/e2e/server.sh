# Starts and ends the server under test. Sourced. It ends only the process that it started.
# shellcheck shell=bash

server_pid=''
# host:port of the gRPC listener, for who sources this.
# shellcheck disable=SC2034
server_address=''
# host:port of the HTTP listener.
# shellcheck disable=SC2034
server_http_address=''
# How the server is told where to listen for HTTP.
server_http_flag=--http-listen

# start_server BINARY DIR LOG [FLAGS...]: returns when the ready line is there, within 20 s.
start_server() {
  local binary=$1 dir=$2 log=$3
  shift 3
  [[ $# -gt 0 ]] || set -- --max-size 4GiB
  launch_server "$binary" "$log" --dir "$dir" "$@" --grpc-listen 127.0.0.1:0
}

# start_server_of FILE BINARY DIR LOG: the same with one of deployment/examples.
start_server_of() {
  local file=$1 binary=$2 dir=$3 log=$4
  CACHE_DIR=$dir CACHE_LISTEN=127.0.0.1:0 launch_server "$binary" "$log" "$file"
}

# launch_server BINARY LOG ARGS...
launch_server() {
  local binary=$1 log=$2 ready='' tries
  local -r documented='^castellan ready grpc=([^ ]+) http=([^ ]+)$'
  shift 2
  # Emptied here, not by the redirection below, which the child makes: the ready line that is
  # read must be this start's.
  : >"$log"
  "$binary" serve "$@" "$server_http_flag" 127.0.0.1:0 >"$log" 2>>"$log.err" </dev/null 3>&- 4>&- &
  server_pid=$!
  for ((tries = 0; tries < 200; tries++)); do
    ready=$(grep -m 1 '^castellan ready ' "$log" || true)
    [[ -z $ready ]] || break
    if ! kill -0 "$server_pid" 2>/dev/null; then
      echo "the server ended before it was ready:" >&2
      tail -n 20 "$log.err" >&2
      return 1
    fi
    sleep 0.1
  done
  if [[ ! $ready =~ $documented ]]; then
    echo "no ready line within 20 s, or not the documented one: '$ready'" >&2
    return 1
  fi
  # shellcheck disable=SC2034
  server_address=${BASH_REMATCH[1]} server_http_address=${BASH_REMATCH[2]}
}

# stop_server: SIGTERM must drain and exit 0 within 30 s.
stop_server() {
  local pid=$server_pid status=0 tries
  kill -TERM "$pid"
  for ((tries = 0; tries < 300; tries++)); do
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.1
  done
  if kill -0 "$pid" 2>/dev/null; then
    echo "still running 30 s after SIGTERM" >&2
    return 1
  fi
  wait "$pid" || status=$?
  server_pid=''
  if [[ $status -ne 0 ]]; then
    echo "exit status $status after SIGTERM" >&2
    return 1
  fi
}

# kill_server: kill -9, as an out-of-memory killer or a lost machine would.
kill_server() {
  local pid=$server_pid
  server_pid=''
  kill -KILL "$pid"
  wait "$pid" 2>/dev/null || true
}

# A panic is a bug even where the client did not notice.
require_no_panic() {
  local log=$1
  if grep -n "panicked at" "$log.err" >&2; then
    return 1
  fi
}
