#!/usr/bin/env bash
# The page of the operator in a real browser: starts `castellan serve`, plays two builds, opens the
# page in headless Chromium, and requires that it says how full the disk is, what the hit ratio was
# and why a digest is missing, without an error on its console.
#
#   tests/e2e/page.sh [BINARY]
#
# BINARY, or $CASTELLAN_BIN, or what `cargo build --release --locked` makes. Installs Debian's
# chromium with apt-get when there is none; where it cannot, it says so and skips. Keeps what it
# saw in target/page/: screenshots of a desktop and a phone, light and dark, and the page as drawn.
set -Eeuo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)
# shellcheck source=tests/e2e/server.sh
source "$here/server.sh"

target=${CARGO_TARGET_DIR:-$repository/target}
readonly seen=$target/page
readonly KEPT=60 LOST=15 # actions that are stored, and that never were
work='' browser='' url='' phone='' phone_pid=''
passed=0

on_exit() {
  local status=$?
  set +e
  [[ $status -eq 0 ]] || { echo "$passed passed, 1 failed"; tail -n 20 "$work/server.log.err" 2>/dev/null; }
  [[ -z $server_pid ]] || kill_server
  [[ -z $phone_pid ]] || kill "$phone_pid"
  [[ -z $work ]] || rm -rf "$work"
  exit "$status"
}

ok() {
  passed=$((passed + 1))
  echo "ok    $1"
}

find_browser() {
  local name
  for name in chromium chromium-browser; do
    ! command -v "$name" >/dev/null || { browser=$name && return 0; }
  done
  return 1
}

install_browser() {
  local -a as_root=()
  find_browser && return 0
  [[ $(id -u) -eq 0 ]] || as_root=(sudo -n)
  "${as_root[@]}" apt-get update -q >"$work/apt.log" 2>&1 </dev/null &&
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
      apt-get install -q -y --no-install-recommends chromium fonts-dejavu-core \
      >>"$work/apt.log" 2>&1 </dev/null
  find_browser
}

# browse URL OPTIONS...: its console goes to $work/console.log, what it prints to stdout.
browse() {
  local address=$1
  shift
  timeout 120 "$browser" --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage \
    --no-first-run --disable-extensions --hide-scrollbars --user-data-dir="$work/profile" \
    --enable-logging=stderr --virtual-time-budget=8000 "$@" "$address" 2>"$work/console.log" </dev/null
  # What a page says or is refused is a line with CONSOLE in it.
  if grep -F CONSOLE "$work/console.log" >&2; then
    echo "the page complains in $address" >&2
    return 1
  fi
}

# text_of FILE: what the page shows, in one line.
text_of() {
  python3 - "$1" <<'PY'
import html, re, sys
text = open(sys.argv[1], encoding="utf-8").read()
text = re.sub(r"<(style|script|noscript)\b.*?</\1>|<title>.*?</title>", " ", text, flags=re.S)
print(" ".join(html.unescape(re.sub(r"<[^>]*>", " ", text)).split()))
PY
}

require() {
  local file=$1 pattern=$2
  if ! text_of "$file" | grep -Eq -- "$pattern"; then
    echo "no '$pattern' on the page: $(text_of "$file" | cut -c 1-1500)" >&2
    return 1
  fi
  ok "says: $pattern"
}

# start_phone: the page in a frame of 360 px, at $phone.
start_phone() {
  local tries
  # Emptied here, not by the redirection below, which the child makes.
  : >"$work/phone.url"
  "$here/phone.py" "$url" 360 3400 >"$work/phone.url" 2>/dev/null </dev/null &
  phone_pid=$!
  for ((tries = 0; tries < 100; tries++)); do
    phone=$(cat "$work/phone.url")
    [[ -z $phone ]] || return 0
    sleep 0.1
  done
  echo 'no frame for the page' >&2
  return 1
}

main() {
  local castellan first asked
  work=$(mktemp -d)
  trap on_exit EXIT
  if ! install_browser; then
    echo 'no chromium and no way to install it: the page is not looked at'
    exit 0
  fi
  castellan=${1:-${CASTELLAN_BIN:-}}
  if [[ -z $castellan ]]; then
    (cd "$repository" && cargo build --release --locked --quiet)
    castellan=$target/release/castellan
  fi
  rm -rf "$seen"
  mkdir -p "$seen"
  # What is stored does not all fit: the first has gone when the last has come.
  start_server "$castellan" "$work/store" "$work/server.log" --max-size 5MiB --lease 0
  url=http://$(sed -n 's/.* http=//p' "$work/server.log")
  first=$("$here/grpc_calls.py" "$server_address" $KEPT $LOST)
  "$here/grpc_calls.py" "$server_address" $KEPT $LOST >/dev/null

  asked="$url/?digest=${first/\//%2F}"
  browse "$asked" --dump-dom >"$seen/page.html"
  grep -q 'data-drawn="yes"' "$seen/page.html" || { echo 'nothing was drawn' >&2; return 1; }
  require "$seen/page.html" '[0-9]+\.[0-9] % full: [0-9.]+ MiB of 5\.0 MiB'
  # Each kept action is asked for twice and there, each lost one once and not, in both builds.
  require "$seen/page.html" '88\.9 % of 270 lookups in the action cache in the last hour'
  require "$seen/page.html" "gone It was here and went: blob ${first}.* evicted to make room, [0-9]+s ago"
  require "$seen/page.html" 'evicted to make room [1-9][0-9]*'
  require "$seen/page.html" "<script>document.title='run'</script> [1-9]"
  grep -q '<title>Castellan</title>' "$seen/page.html" || { echo 'a name ran as a script' >&2; return 1; }
  ok 'names from clients are text'

  browse "$asked" --window-size=1280,1900 \
    --blink-settings=preferredColorScheme=1 --screenshot="$seen/desktop-light.png" >/dev/null
  browse "$asked" --window-size=1280,1900 \
    --blink-settings=preferredColorScheme=0 --screenshot="$seen/desktop-dark.png" >/dev/null
  start_phone
  browse "$phone/frame" --dump-dom >"$work/frame.html"
  grep -q '<p id="fits">yes</p>' "$work/frame.html" || {
    echo "too wide for a phone: $(grep 'id="fits"' "$work/frame.html")" >&2
    return 1
  }
  ok 'needs no scrolling to the side at 360 px'
  browse "$phone/frame" --window-size=500,3400 \
    --blink-settings=preferredColorScheme=1 --screenshot="$seen/phone-light.png" >/dev/null
  browse "$phone/frame" --window-size=500,3400 \
    --blink-settings=preferredColorScheme=0 --screenshot="$seen/phone-dark.png" >/dev/null
  ok "screenshots in $seen"

  stop_server
  require_no_panic "$work/server.log"
  echo "$passed passed, 0 failed"
}

main "$@"
