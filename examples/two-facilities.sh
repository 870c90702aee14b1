#!/usr/bin/env bash
# An instrument's site and a compute site on one machine, with nothing but SciStream gateways between them. Takes root.
#
#   examples/two-facilities.sh [--type TYPE] [--delay SECONDS] …
#       [stream-scaling] OPTIONS    a sweep from one to the other
#       compare-paths OPTIONS       the same over several paths, as --paths broker scistream:copy scistream:quic
#       --at HOST COMMAND …         a command on one of the hosts, once gateways and Redis are up
#
#   instrument ──── lan ──── instrument-gateway ──── wan ──── compute-gateway ──── lan ──── compute
#    10.1.0.2         10.1.0.1              192.0.2.1  192.0.2.2           10.2.0.1         10.2.0.2
#
# Each host is a network namespace. The generator, Redis and the dispatcher are on the instrument's; workers on the compute site's, where an
# ssh of this script's own starts them. A host reaches its own gateway, and of the other site the control port of its gateway, nothing else:
# what workers fetch, and their connections to the dispatcher, go through both gateways. So what crosses by path "broker" are items in full,
# in those connections; "broker-via-scistream" is for a dispatcher at the compute site, which would have to have generators at the other one.
#
# --type is that of the gateways' data servers where nobody asks for another (copy). --delay is how long packets take from one gateway to
# the other (0): half a round trip, by wan_delay.py, which needs some of a core. A command finds in its environment PSBENCH, the program
# (the one on the PATH unless that is set), FACILITIES, a directory with both gateways' certificates, and PSBENCH_S2CS_TOKEN. All that was
# started ends with the script.
set -euo pipefail

readonly control=5000
readonly instrument=10.1.0.2 compute=10.2.0.2
readonly instrument_gateway=(10.1.0.1 192.0.2.1) compute_gateway=(10.2.0.1 192.0.2.2)
readonly hosts=(instrument instrument-gateway compute-gateway compute)
readonly net=psbench-$$
here=$(dirname "$(realpath "$0")")
servers=()

fail() {
    echo "two-facilities: $*" >&2
    exit 2
}

# A command on a host: HOST COMMAND …
at() {
    ip netns exec "$net-$1" "${@:2}"
}

# A server on a host: HOST NAME COMMAND … Ctrl-C is for the sweep, which still needs it; nothing outlives this script.
serve() {
    ip netns exec "$net-$1" setsid setpriv --pdeathsig TERM "${@:3}" >"$FACILITIES/$2.log" 2>&1 &
    servers+=($!)
}

# Waits until the last server that was started listens: HOST ADDRESS PORT NAME
listens() {
    local deadline=$((SECONDS + 60))
    until at "$1" bash -c "exec 3<>/dev/tcp/$2/$3" 2>/dev/null; do
        if ! kill -0 "${servers[-1]}" 2>/dev/null || [ $SECONDS -ge $deadline ]; then
            cat "$FACILITIES/$4.log" >&2
            fail "$4 does not listen at $2, port $3"
        fi
        sleep 0.05
    done
}

end() {
    local server host deadline=$((SECONDS + 15))
    [ ${#servers[@]} -eq 0 ] || kill "${servers[@]}" 2>/dev/null || true
    for server in "${servers[@]}"; do
        while kill -0 "$server" 2>/dev/null; do
            [ $SECONDS -lt $deadline ] || kill -KILL "$server" 2>/dev/null || true
            sleep 0.05
        done
    done
    for host in "${hosts[@]}"; do
        ip netns del "$net-$host" 2>/dev/null || true
    done
    rm -rf "$FACILITIES"
}

# A wire between two hosts: HOST ADDRESS HOST ADDRESS DEVICE
wire() {
    ip link add "$5" netns "$net-$1" type veth peer name "$5" netns "$net-$3"
    at "$1" ip address add "$2/24" dev "$5"
    at "$3" ip address add "$4/24" dev "$5"
    at "$1" ip link set "$5" up
    at "$3" ip link set "$5" up
}

# A wire between the gateways on which packets take their time, and with windows for connections that fill it.
long_wire() {
    local host deadline=$((SECONDS + 60))
    setsid setpriv --pdeathsig TERM python3 "$here/wan_delay.py" "$delay" "$net-instrument-gateway" "$net-compute-gateway" \
        >"$FACILITIES/wan.log" 2>&1 &
    servers+=($!)
    until grep -qsx up "$FACILITIES/wan.log"; do
        { kill -0 $! 2>/dev/null && [ $SECONDS -lt $deadline ]; } || fail "no TUN devices: $(tail -1 "$FACILITIES/wan.log")"
        sleep 0.05
    done
    at instrument-gateway ip address add "${instrument_gateway[1]}/24" dev wan
    at compute-gateway ip address add "${compute_gateway[1]}/24" dev wan
    for host in instrument-gateway compute-gateway; do
        at "$host" ip link set wan mtu 9000 txqueuelen 10000 up
        at "$host" bash -c 'for way in rmem wmem; do echo 4096 131072 536870912 >/proc/sys/net/ipv4/tcp_$way; done'
    done
}

# A gateway passes on what its site's host and the other gateway's control port say to each other, and no other packet:
# GATEWAY OTHER-SITE'S-HOST OTHER-GATEWAY
filter() {
    local from_site=(iif lan to "$3" ipproto tcp dport $control) to_site=(iif wan from "$3" ipproto tcp sport $control)
    at "$1" ip route add "$2" via "$3"
    at "$1" ip rule add pref 100 "${from_site[@]}" lookup main
    at "$1" ip rule add pref 101 "${to_site[@]}" lookup main
    at "$1" ip rule add pref 102 iif lan blackhole
    at "$1" ip rule add pref 103 iif wan blackhole
    at "$1" bash -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
}

make_network() {
    local host
    for host in "${hosts[@]}"; do
        ip netns add "$net-$host" || fail "this system lets nobody make network namespaces"
        at "$host" ip link set lo up
    done
    wire instrument $instrument instrument-gateway "${instrument_gateway[0]}" lan
    wire compute $compute compute-gateway "${compute_gateway[0]}" lan
    if [ "$delay" = 0 ]; then
        wire instrument-gateway "${instrument_gateway[1]}" compute-gateway "${compute_gateway[1]}" wan
    else
        long_wire
    fi
    at instrument ip route add default via "${instrument_gateway[0]}"
    at compute ip route add default via "${compute_gateway[0]}"
    filter instrument-gateway $compute "${compute_gateway[1]}"
    filter compute-gateway $instrument "${instrument_gateway[1]}"
}

# A gateway's control server, asked from both sides: SITE LAN-ADDRESS WAN-ADDRESS SESSIONS'-ADDRESS
serve_gateway() {
    local identity=(--server-crt "$FACILITIES/$1.crt" --server-key "$FACILITIES/$1.key")
    "$PSBENCH" s2cs init "${identity[@]}" --san "$2,$3" >/dev/null
    serve "$1-gateway" "s2cs-$1" "$PSBENCH" s2cs "${identity[@]}" --tokens "$FACILITIES/tokens" \
        --control-ip 0.0.0.0 --port $control --listener-ip "$4" --type "$type" --allow-type all --state-dir "$FACILITIES/s2cs-$1"
    listens "$1-gateway" "$3" $control "s2cs-$1"
}

serve_all() {
    PSBENCH_S2CS_TOKEN=$(od -An -tx1 -N16 /dev/urandom | tr -d ' \n')
    export PSBENCH_S2CS_TOKEN
    echo "two-facilities $PSBENCH_S2CS_TOKEN" >"$FACILITIES/tokens"
    serve_gateway instrument "${instrument_gateway[@]}" "${instrument_gateway[1]}"
    serve_gateway compute "${compute_gateway[@]}" "${compute_gateway[0]}"
    # Redis drops no subscriber for being slow: items in full take their time.
    serve instrument redis redis-server --bind 127.0.0.1 $instrument --protected-mode no --port 6379 --save '' --dir "$FACILITIES" \
        --client-output-buffer-limit 'pubsub 0 0 0'
    listens instrument $instrument 6379 redis
}

# What starts workers as ssh does: on the compute site's host, which has a name and, as hosts tell each other apart, a boot of its own.
make_ssh() {
    cat /proc/sys/kernel/random/uuid >"$FACILITIES/boot_id"
    cat >"$FACILITIES/ssh" <<EOF
#!/bin/sh
[ "\$1" = -V ] && exec echo "the two facilities' own ssh"
shift \$((\$# - 2))
exec ip netns exec $net-"\$1" unshare --uts --mount sh -c '
    hostname "\$0" && mount --bind $FACILITIES/boot_id /proc/sys/kernel/random/boot_id && exec sh -c "\$1"' "\$1" "\$2"
EOF
    chmod +x "$FACILITIES/ssh"
}

type=copy delay=0
while [ "${1:-}" = --type ] || [ "${1:-}" = --delay ]; do
    [ $# -ge 2 ] || fail "$1 needs a value"
    if [ "$1" = --type ]; then type=$2; else delay=$2; fi
    shift 2
done
PSBENCH=$(command -v "${PSBENCH:-psbench}") || fail "no psbench on the PATH; name it by PSBENCH=…, as target/release/psbench"
PSBENCH=$(realpath "$PSBENCH")
[ "$(id -u)" -eq 0 ] || fail "only root makes network namespaces; try sudo"
command -v redis-server >/dev/null || fail "no redis-server; apt-get install redis-server"
umask 077
FACILITIES=$(mktemp -d)
export PSBENCH FACILITIES
trap end EXIT
make_network
serve_all
make_ssh

if [ "${1:-}" = --at ]; then
    [ $# -ge 3 ] || fail "--at takes one of ${hosts[*]}, and a command"
    at "$2" setpriv --pdeathsig TERM "${@:3}"
    exit
fi
benchmark=stream-scaling connector=(--ps-connector scistream)
case "${1:-}" in
    stream-scaling) shift ;;
    # It has its connectors by --paths.
    compare-paths) benchmark=compare-paths connector=() && shift ;;
esac
at instrument setpriv --pdeathsig TERM "$PSBENCH" "$benchmark" --generator local --stream redis --stream-servers 127.0.0.1:6379 \
    --executor ssh --hosts compute --launcher "$FACILITIES/ssh" --worker-via-scistream "${connector[@]}" \
    --scistream-producer-s2cs "${instrument_gateway[0]}:$control" --scistream-producer-cert "$FACILITIES/instrument.crt" \
    --scistream-consumer-s2cs "${compute_gateway[1]}:$control" --scistream-consumer-cert "$FACILITIES/compute.crt" "$@"
