# The same commands by hand and in CI; .ci/run calls them without just.

# List the recipes.
default:
    @just --list

# What a change must pass before it is pushed.
check: fmt-check clippy test

# Format the code.
fmt:
    cargo fmt --all

fmt-check:
    cargo fmt --all --check

clippy:
    cargo clippy --workspace --all-targets --locked -- -D warnings
    cargo clippy --lib --tests --locked --features shuttle -- -D warnings

test:
    cargo test --workspace --locked

# The store under a model checker: so many schedules of each race.
schedules N="50000":
    CASTELLAN_SCHEDULES={{ N }} cargo test --lib --locked --features shuttle schedules -- --nocapture

# Build with Bazel against the server, wipe, build again: every action must be a hit.
e2e:
    tests/e2e/bazel.sh

# The HTTP listener against real clients: Bazel, ccache, sccache, curl.
e2e-http:
    for client in bazel_http ccache sccache curl; do tests/e2e/$client.sh || exit; done

# Not gating; docs/benchmarks.md has the figures of one machine.
bench *ARGS:
    cargo bench --locked {{ ARGS }}

# Run the server with its defaults.
serve *ARGS:
    cargo run --release --locked -- serve {{ ARGS }}

# Everything that CI runs, on a clean clone too.
ci:
    .ci/run
