#!/usr/bin/env bash
# Gets what the tests need, and runs every test. On a fresh Debian with Rust, git and a C compiler this is all there is to do.
#
#   ./test.sh             every test
#   ./test.sh redis       the tests with "redis" in their names (any `cargo test` filter)
#
# Needed: `redis-server`; installed with apt-get where it is missing. The tests start private servers on free ports of the
# loopback interface, and stop them. On two cores compiling takes about three minutes the first time, the tests about one and a half, of
# which a third is `failures`, whose trials have to run for some seconds before something is taken from them.
set -euo pipefail
cd "$(dirname "$0")"

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

if ! command -v redis-server >/dev/null; then
    echo "test.sh: installing redis-server" >&2
    as_root apt-get update -qq
    # A server of the system's own is not wanted: only the program.
    as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends redis-server redis-tools >/dev/null
fi

step() {
    local started=$SECONDS
    echo "test.sh: $*" >&2
    "$@"
    echo "test.sh: $((SECONDS - started)) s: $*" >&2
}

step cargo build --workspace --all-targets --locked
step cargo test --workspace --locked -- "$@"
