#!/usr/bin/env bash
# Writes an offline Bazel workspace: `workspace.sh DIR` fills DIR/ws and DIR/stubs.
#
# Everything in it is deterministic, so that two machines build the same bytes, and needs only
# Bazel 4, a C++ compiler and a shell: no repository is fetched (see `write_stubs`). Each kind of
# output that a cache can get wrong has its own package:
#   cc/     objects, archives, shared libraries, executables, a test
#   tool/   a generated script that a later action executes; an action that prints; an empty file
#   tree/   directory outputs (REAPI `Tree` messages) with nested and executable files
#   big/    one output of 100 MB: too large for a batch, not a multiple of any chunk size
#   tiny/   hundreds of small actions, and one action with hundreds of outputs
# `bazel build //...` leaves out late/ and crash/, which have uses of their own.
set -euo pipefail

# Bazel 4 loads these repositories for its own C++ and test targets and would download them.
# A stub forwards to the native rules, which are all that this workspace uses.
write_stubs() {
  local stubs=$1
  write_forwarding_stub "$stubs/rules_cc" cc cc_binary cc_import cc_library cc_proto_library \
    cc_test cc_toolchain cc_toolchain_suite objc_library
  write_forwarding_stub "$stubs/rules_java" java java_binary java_import java_library \
    java_proto_library java_runtime java_toolchain
  write_forwarding_stub "$stubs/rules_proto" proto proto_lang_toolchain proto_library
  # Every test depends on the coverage tools, whether or not coverage is collected.
  mkdir -p "$stubs/remote_coverage_tools"
  : >"$stubs/remote_coverage_tools/WORKSPACE"
  cat >"$stubs/remote_coverage_tools/BUILD" <<'BUILD'
package(default_visibility = ["//visibility:public"])
filegroup(name = "coverage_report_generator")
filegroup(name = "lcov_merger")
BUILD
}

write_forwarding_stub() {
  local repository=$1 package=$2 rule
  shift 2
  mkdir -p "$repository/$package"
  : >"$repository/WORKSPACE"
  : >"$repository/$package/BUILD"
  for rule in "$@"; do
    printf 'def %s(**kwargs):\n    native.%s(**kwargs)\n\n' "$rule" "$rule"
  done >"$repository/$package/defs.bzl"
}

write_cc() {
  local dir=$1 i
  mkdir -p "$dir"
  for i in 0 1 2 3 4 5 6 7; do
    echo "int part$i(int x);" >"$dir/part$i.h"
    printf '#include "cc/part%d.h"\nint part%d(int x) { return x * %d + %d; }\n' \
      "$i" "$i" $((i + 2)) "$i" >"$dir/part$i.cc"
  done
  cat >"$dir/app.cc" <<'CC'
#include <cstdio>
#include "cc/part0.h"
#include "cc/part7.h"
int main() { std::printf("app says %d\n", part0(20) + part7(0)); }
CC
  cat >"$dir/all.cc" <<'CC'
#include "cc/part1.h"
#include "cc/part2.h"
#include "cc/part3.h"
#include "cc/part4.h"
#include "cc/part5.h"
#include "cc/part6.h"
int main() { return part1(part2(part3(part4(part5(part6(0)))))) > 0 ? 0 : 1; }
CC
  cat >"$dir/BUILD" <<'BUILD'
[cc_library(
    name = "part%d" % i,
    srcs = ["part%d.cc" % i],
    hdrs = ["part%d.h" % i],
) for i in range(8)]

cc_binary(name = "app", srcs = ["app.cc"], deps = [":part0", ":part7"])
cc_binary(name = "all", srcs = ["all.cc"], deps = [":part%d" % i for i in range(1, 7)])
cc_test(name = "all_test", srcs = ["all.cc"], deps = [":part%d" % i for i in range(1, 7)])
BUILD
}

write_tool() {
  mkdir -p "$1"
  cat >"$1/BUILD" <<'BUILD'
package(default_visibility = ["//visibility:public"])

genrule(
    name = "greet",
    outs = ["greet.sh"],
    cmd = "printf '#!/bin/sh\\necho greetings to $$1\\n' > $@ && chmod 755 $@",
    executable = True,
)

# Fails unless the executable bit of its tool came back from the cache.
genrule(
    name = "greeting",
    outs = ["greeting.txt"],
    cmd = "$(execpath :greet) world > $@",
    tools = [":greet"],
)

# What an action prints is part of its result: a cache hit prints it again.
genrule(
    name = "chatty",
    outs = ["chatty.txt"],
    cmd = "echo e2e-stdout-marker; echo e2e-stderr-marker >&2; echo done > $@",
)

# More output than a cache inlines: it comes back as a blob of its own.
genrule(
    name = "verbose",
    outs = ["verbose.txt"],
    cmd = "seq 1 20000; echo done > $@",
)

genrule(name = "empty", outs = ["empty.txt"], cmd = ": > $@")
BUILD
}

write_tree() {
  mkdir -p "$1"
  cat >"$1/tree.bzl" <<'BZL'
"""A directory output, and an action that runs a program inside it."""

_FILL = """
set -e
mkdir -p "$1/bin" "$1/share/deep/er/still" "$1/data"
printf '#!/bin/sh\\ncat "$(dirname "$0")/../share/deep/er/still/leaf.txt"\\n' > "$1/bin/run.sh"
chmod 755 "$1/bin/run.sh"
echo leaf > "$1/share/deep/er/still/leaf.txt"
echo spaced > "$1/share/with space.txt"
: > "$1/share/empty"
i=0
while [ $i -lt 40 ]; do
    echo "datum $i" > "$1/data/d$i.txt"
    i=$((i + 1))
done
# The same content under another name and mode: one blob, two entries.
cp "$1/share/deep/er/still/leaf.txt" "$1/data/leaf-again.txt"
"""

def _tree_impl(ctx):
    directory = ctx.actions.declare_directory(ctx.label.name)
    ctx.actions.run_shell(
        outputs = [directory],
        command = _FILL,
        arguments = [directory.path],
        mnemonic = "FillTree",
    )
    result = ctx.actions.declare_file(ctx.label.name + ".ran")
    ctx.actions.run_shell(
        inputs = [directory],
        outputs = [result],
        command = '"$1/bin/run.sh" > "$2"',
        arguments = [directory.path, result.path],
        mnemonic = "RunFromTree",
    )
    return [DefaultInfo(files = depset([directory, result]))]

tree = rule(implementation = _tree_impl)
BZL
  cat >"$1/BUILD" <<'BUILD'
load(":tree.bzl", "tree")

package(default_visibility = ["//visibility:public"])

tree(name = "dir")
BUILD
}

write_big() {
  mkdir -p "$1"
  # A xorshift generator: the same bytes everywhere, and no compressor gains on them.
  cat >"$1/noise.cc" <<'CC'
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>
int main(int, char** argv) {
  const long total = std::atol(argv[1]);
  std::uint64_t x = 0x9e3779b97f4a7c15u;
  std::vector<unsigned char> bytes(total);
  for (long i = 0; i < total; ++i) {
    if (i % 8 == 0) { x ^= x << 13; x ^= x >> 7; x ^= x << 17; }
    bytes[i] = static_cast<unsigned char>(x >> (8 * (i % 8)));
  }
  return std::fwrite(bytes.data(), 1, total, stdout) == bytes.size() ? 0 : 1;
}
CC
  cat >"$1/BUILD" <<'BUILD'
package(default_visibility = ["//visibility:public"])

cc_binary(name = "noise", srcs = ["noise.cc"])

genrule(
    name = "big",
    outs = ["big.bin"],
    cmd = "$(execpath :noise) 100000007 > $@",
    tools = [":noise"],
)
BUILD
}

write_tiny() {
  mkdir -p "$1"
  cat >"$1/BUILD" <<'BUILD'
[genrule(
    name = "tiny%d" % i,
    outs = ["tiny%d.txt" % i],
    cmd = "echo tiny %d > $@" % i,
) for i in range(300)]

genrule(
    name = "many",
    outs = ["many%d.txt" % i for i in range(200)],
    cmd = "for out in $(OUTS); do echo $$out > $$out; done",
)
BUILD
}

# Consumes outputs that a machine may not have downloaded. `manual` keeps it out of `//...`, and
# `no-remote-cache` makes it run here, so that its inputs must be fetched.
write_late() {
  mkdir -p "$1"
  cat >"$1/BUILD" <<'BUILD'
genrule(
    name = "late",
    srcs = ["//big:big.bin", "//tool:greeting.txt", "//tree:dir"],
    outs = ["late.txt"],
    cmd = "cat $(location //big:big.bin) $(location //tool:greeting.txt) | sha256sum > $@",
    tags = ["manual", "no-remote-cache"],
)
BUILD
}

# Something to upload while the server is killed: 60 MB that no other build has stored.
write_crash() {
  mkdir -p "$1"
  cat >"$1/BUILD" <<'BUILD'
[genrule(
    name = "crash%d" % i,
    outs = ["crash%d.bin" % i],
    cmd = "head -c 200000 /dev/urandom > $@",
    tags = ["manual"],
) for i in range(300)]

filegroup(
    name = "crash",
    srcs = ["crash%d.bin" % i for i in range(300)],
    tags = ["manual"],
)
BUILD
}

main() {
  local root=$1
  write_stubs "$root/stubs"
  mkdir -p "$root/ws"
  echo 'workspace(name = "castellan_e2e")' >"$root/ws/WORKSPACE"
  write_cc "$root/ws/cc"
  write_tool "$root/ws/tool"
  write_tree "$root/ws/tree"
  write_big "$root/ws/big"
  write_tiny "$root/ws/tiny"
  write_late "$root/ws/late"
  write_crash "$root/ws/crash"
}

main "$@"
