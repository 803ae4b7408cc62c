#!/usr/bin/env bash
# Loads this repository's own MODULE.bazel and BUILD.bazel files in a real Bazel, without the
# module registry: `build_files.sh BAZEL DIR` works in DIR/own; workspace.sh has filled DIR.
# What that proves: Starlark that Bazel accepts, attributes and labels that exist, globs that
# match. What it cannot: that the rules compile the code.
set -euo pipefail

write_rules_stub() {
  local dir=$1
  mkdir -p "$dir/rust" "$dir/cargo"
  : >"$dir/WORKSPACE"
  : >"$dir/rust/BUILD"
  : >"$dir/cargo/BUILD"
  cat >"$dir/rust/defs.bzl" <<'BZL'
def _impl(ctx):
    fail("only loaded, never built")

ATTRS = {
    "aliases": attr.string_dict(),
    "compile_data": attr.label_list(allow_files = True),
    "crate": attr.label(),
    "crate_name": attr.string(),
    "crate_root": attr.label(allow_single_file = True),
    "data": attr.label_list(allow_files = True),
    "deps": attr.label_list(),
    "proc_macro_deps": attr.label_list(),
    "rustc_env": attr.string_dict(),
    "srcs": attr.label_list(allow_files = [".rs"]),
    "version": attr.string(),
}

rust_binary = rule(implementation = _impl, attrs = ATTRS, executable = True)
rust_library = rule(implementation = _impl, attrs = ATTRS)
rust_test = rule(implementation = _impl, attrs = ATTRS, test = True)
BZL
  cat >"$dir/cargo/defs.bzl" <<'BZL'
load("@rules_rust//rust:defs.bzl", "ATTRS")

def _impl(ctx):
    fail("only loaded, never built")

cargo_build_script = rule(implementation = _impl, attrs = ATTRS)
BZL
}

write_crates_stub() {
  local dir=$1
  mkdir -p "$dir"
  : >"$dir/WORKSPACE"
  : >"$dir/BUILD"
  cat >"$dir/defs.bzl" <<'BZL'
def aliases(
        normal = False,
        normal_dev = False,
        proc_macro = False,
        proc_macro_dev = False,
        build = False,
        build_proc_macro = False,
        package_name = None):
    return {}

def all_crate_deps(
        normal = False,
        normal_dev = False,
        proc_macro = False,
        proc_macro_dev = False,
        build = False,
        build_proc_macro = False,
        package_name = None):
    if not (normal or normal_dev or proc_macro or proc_macro_dev or build or build_proc_macro):
        fail("name a kind of dependency")
    return []
BZL
}

# Bazel 4 does not read MODULE.bazel, so its statements are run as those of a BUILD file in which
# the module functions do nothing.
write_module_package() {
  local dir=$1 module=$2
  mkdir -p "$dir"
  cat >"$dir/module.bzl" <<'BZL'
def _nothing(**kwargs):
    pass

def module(name, version = ""):
    pass

def bazel_dep(name, version = "", dev_dependency = False):
    pass

def use_extension(file, name):
    return struct(toolchain = _nothing, from_cargo = _nothing, annotation = _nothing)

def use_repo(extension, *names):
    pass

def register_toolchains(*labels):
    pass
BZL
  {
    echo 'load(":module.bzl", "bazel_dep", "module", "register_toolchains", "use_extension", "use_repo")'
    cat "$module"
  } >"$dir/BUILD"
}

main() {
  local bazel=$1 dir=$2/own stubs=$2/stubs repository entry name
  repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
  mkdir -p "$dir/ws"
  for entry in "$repository"/*; do
    name=${entry##*/}
    case $name in
      target | MODULE.bazel | bazel-*) ;;
      *) ln -s "$entry" "$dir/ws/$name" ;;
    esac
  done
  echo 'workspace(name = "castellan")' >"$dir/ws/WORKSPACE"
  write_rules_stub "$dir/rules_rust"
  write_crates_stub "$dir/crates"
  write_module_package "$dir/ws/module" "$repository/MODULE.bazel"

  local -a startup=(--nohome_rc --noworkspace_rc --batch
    --output_user_root="$dir/user" --output_base="$dir/base")
  cd "$dir/ws"
  "$bazel" "${startup[@]}" query --color=no --noshow_progress \
    --override_repository=rules_rust="$dir/rules_rust" \
    --override_repository=crates="$dir/crates" \
    --override_repository=remote_coverage_tools="$stubs/remote_coverage_tools" \
    'kind("rust_.*|cargo_build_script", deps(//...))' </dev/null
}

main "$@"
