#!/usr/bin/env bash
# What the gate costs: the gateway, the same Pingora build without a gate (bench/bare.rs) and nginx, side by
# side on loopback before one upstream. The variants take turns; each figure is the median of RUNS runs.
#
#   bench/run.sh [variant or group...]        RUNS=5 SECONDS=5 IDLE=1000 LOGINS=200 CHART=file.svg
#
# Groups: all (the default, the quicker one), algorithms, tls, logged, http2, bodies, websocket, others (other gateways),
# everything. DOORWARD and BARE name binaries to measure instead of building them. Only ratios within one run compare.
#
# OTHER=http://127.0.0.1:PORT is a gateway that the caller starts, measured as the variant `other` with the provider's token;
# OTHER_PID the process whose CPU counts. UPSTREAM and PROVIDER are the ports where it finds the app and the provider.
set -euo pipefail

# Bash counts in SECONDS; what the caller asked for is in the environment it was started with.
duration=$(tr '\0' '\n' <"/proc/$$/environ" | sed -n 's/^SECONDS=//p')
duration=${duration:-5}
runs=${RUNS:-5}
idle=${IDLE:-1000}
logins=${LOGINS:-200}
threads=2
connections=32
workers=2

# shellcheck source=bench/setup.sh
source "$(dirname "$0")/setup.sh"
# shellcheck source=bench/variants.sh
source "$(dirname "$0")/variants.sh"
# shellcheck source=bench/traffic.sh
source "$(dirname "$0")/traffic.sh"
# shellcheck source=bench/others.sh
source "$(dirname "$0")/others.sh"
# shellcheck source=bench/load.sh
source "$(dirname "$0")/load.sh"
# shellcheck source=bench/after.sh
source "$(dirname "$0")/after.sh"

groups=(all algorithms tls logged http2 bodies websocket others)

main() {
    local variants=() v round
    mapfile -t variants < <(named "${@:-all}" | awk '!seen[$0]++')
    for v in "${variants[@]}"; do
        is_variant "$v" || die "no such variant or group: $v (there are: ${groups[*]} everything," \
            "$(named everything | sort -u | xargs))"
    done
    prepare "${variants[@]}"
    for v in "${variants[@]}"; do
        start "$v"
        await "${url[$v]}${path[$v]:-/}" "$v" "${answer[$v]:-200}"
        guards "$v"
        [[ $v != *_down_* && $v != *_up_* ]] || body_passes "$v"
        load "$v" 1 >"$work/load.txt" # connections, caches and the allocator are warm
        count "$v"
    done
    for ((round = 0; round < runs; round++)); do
        echo "round $((round + 1)) of $runs" >&2
        for ((v = 0; v < ${#variants[@]}; v++)); do
            measure "${variants[(v + round) % ${#variants[@]}]}"
        done
    done
    table "${variants[@]}"
    after "${variants[@]}"
}

# The variants that names of groups and variants stand for, each on a line.
named() {
    local name
    for name in "$@"; do
        if [[ $name == everything ]]; then
            named "${groups[@]}"
        elif [[ " ${groups[*]} " == *" $name "* ]]; then
            local -n group=$name
            printf '%s\n' "${group[@]}"
        else
            echo "$name"
        fi
    done
}

is_variant() { named everything other | grep -xF "$1" >/dev/null; }

start() {
    if is_traffic "$1"; then
        start_traffic "$1"
    else
        "start_$1"
    fi
}

is_traffic() { [[ " ${logged[*]} ${http2[*]} ${bodies[*]} ${websocket[*]} " == *" $1 "* ]]; }

# A gate that lets everybody through is not worth measuring: a token with another signature must not get the same answer.
guards() {
    local status forged="Authorization: Bearer ${token%????}AAAA"
    [[ ${1%%_*} != @(nginx|bare|public|other) && ${answer[$1]:-200} == 2* ]] || return 0
    status=$(curl -s -k -m 10 -o /dev/null -w '%{http_code}' -H "$forged" "${url[$1]}${path[$1]:-/}")
    [[ $status == [34]* ]] || die "$1: a forged token gets $status"
}

table() {
    echo
    echo "$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1), $(nproc) processors, Linux $(uname -r)," \
        "$("$nginx" -v 2>&1)"
    echo "upstream nginx with 1 worker, wrk -t$threads -c$connections -d${duration}s (or h2load), medians of $runs runs," \
        "credential and padding $((${#token} + 24)) bytes"
    echo
    python3 "$root/bench/table.py" "$work/results" "${CHART:-}" "$@"
}

main "$@"
