#!/usr/bin/env bash
# What the gate costs: the gateway, the same Pingora build without a gate (bench/bare.rs) and nginx, side by
# side on loopback before one upstream. The variants take turns; each figure is the median of RUNS runs.
#
#   bench/run.sh [variant...]        RUNS=5 SECONDS=5 IDLE=1000 LOGINS=200 CHART=file.svg
#
# DOORWARD and BARE name binaries to measure instead of building them. Only ratios within one run compare.
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

# ---------------------------------------------------------------------------------------------- the bench
main() {
    local variants=("$@")
    ((${#variants[@]})) || variants=("${all[@]}")
    local v round
    for v in "${variants[@]}"; do
        declare -F "start_$v" >/dev/null || die "no such variant: $v (there are: ${all[*]})"
    done
    prepare "${variants[@]}"
    for v in "${variants[@]}"; do
        "start_$v"
        await "${url[$v]}${path[$v]:-/}" "$v" "${answer[$v]:-200}"
        load "$v" 1 >/dev/null # connections, caches and the allocator are warm
    done
    for ((round = 0; round < runs; round++)); do
        echo "round $((round + 1)) of $runs" >&2
        for ((v = 0; v < ${#variants[@]}; v++)); do
            measure "${variants[(v + round) % ${#variants[@]}]}"
        done
    done
    table "${variants[@]}"
    echo
    for v in "${variants[@]}"; do
        [[ $v != session_memory && $v != session_file ]] || cost_of_login "$v"
    done
    for v in "${variants[@]}"; do
        [[ $v != *_tls ]] || handshakes "$v"
    done
    for v in "${variants[@]}"; do
        stop "$v"
    done
    echo
    for v in "${variants[@]}"; do
        [[ $v != bare && $v != bearer_hit && $v != session_memory ]] || idle_memory "$v"
    done
}

# One run: name, requests a second, p50 and p99 in microseconds, CPU microseconds a request.
measure() {
    local before after
    before=$(cpu_ticks "$1")
    load "$1" "$duration" >"$work/wrk.txt"
    after=$(cpu_ticks "$1")
    awk -v name="$1" -v ticks=$((after - before)) -v hz="$(getconf CLK_TCK)" '
        function us(t) { return t ~ /us$/ ? t + 0 : t ~ /ms$/ ? t * 1e3 : t ~ /m$/ ? t * 6e7 : t * 1e6 }
        /^ +50%/ { p50 = us($2) }
        /^ +99%/ { p99 = us($2) }
        / requests in / { n = $1 }
        /^Requests\/sec:/ { rps = $2 }
        END { print name, rps, p50, p99, ticks / hz * 1e6 / n }' "$work/wrk.txt" >>"$work/results"
}

load() {
    local line more=() out
    while IFS= read -r line; do
        more+=(-H "$line")
    done < <(head_of "$1")
    out=$(wrk -t"$threads" -c"$connections" -d"${2}s" --latency "${more[@]}" "${url[$1]}${path[$1]:-/}")
    # wrk counts 4xx and 5xx as errors.
    local bad all
    bad=$(sed -n 's/.*Non-2xx or 3xx responses: //p' <<<"$out") all=$(sed -n 's/^ *\([0-9]*\) requests in .*/\1/p' <<<"$out")
    [[ ${answer[$1]:-200} != 4* ]] || bad=$((all - ${bad:-0}))
    if ((${bad:-0} != 0)) || grep -q 'Socket errors' <<<"$out"; then
        die "$1: not every request was answered well:"$'\n'"$out"
    fi
    echo "$out"
}

# utime + stime of a variant's process and its children, in clock ticks.
cpu_ticks() {
    local p sum=0 fields
    for p in "${pid[$1]}" $(cat "/proc/${pid[$1]}/task/"*/children); do
        read -r -a fields < <(sed 's/.*) //' "/proc/$p/stat")
        sum=$((sum + fields[11] + fields[12]))
    done
    echo "$sum"
}

table() {
    echo
    echo "$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1), $(nproc) processors, Linux $(uname -r), $("$nginx" -v 2>&1), wrk"
    echo "upstream nginx with 1 worker, wrk -t$threads -c$connections -d${duration}s, medians of $runs runs," \
        "credential and padding $((${#token} + 24)) bytes"
    echo
    python3 "$root/bench/table.py" "$work/results" "${CHART:-}" "$@"
}

# Memory that an idle client connection holds, in a fresh process: it has made one request, and waits.
idle_memory() {
    local before after client in out headers
    "start_$1"
    await "${url[$1]}/" "$1" 200
    headers=$(head_of "$1")
    headers=${headers//$'\n'/$'\r\n'}$'\r\n'
    before=$(rss_kb "$1")
    coproc CLIENT { python3 "$root/bench/idle.py" "${url[$1]}" "$idle" "$headers"; }
    client=$CLIENT_PID out=${CLIENT[0]} in=${CLIENT[1]}
    read -r -t 60 -u "$out" || die "$1: the idle connections were not made"
    sleep 1
    after=$(rss_kb "$1")
    eval "exec $in>&-"
    wait "$client" || true
    stop "$1"
    awk -v n="$idle" -v a="$before" -v b="$after" -v name="${1//_/ }" \
        'BEGIN { printf "%-14s %d idle connections: RSS %d -> %d KB, %.1f KB each\n", name, n, a, b, (b - a) / n }'
}

rss_kb() { awk '/^VmRSS:/ { print $2 }' "/proc/${pid[$1]}/status"; }

# Two clients that do nothing but handshakes, each on a connection of its own: full ones by TLS 1.3, then full and resumed
# ones by TLS 1.2, since this client does not read the tickets of 1.3.
handshakes() {
    local mode before after n
    for mode in "new -tls1_3" "new -tls1_2" "reuse -tls1_2"; do
        before=$(cpu_ticks "$1")
        for n in 1 2; do
            # shellcheck disable=SC2086 # words
            openssl s_time -connect "${url[$1]#https://}" -$mode -time "$duration" >"$work/handshakes.$n" 2>&1 &
        done
        while pgrep -P $$ -x openssl >/dev/null; do sleep 0.1; done
        after=$(cpu_ticks "$1")
        awk -v name="${1//_/ }" -v mode="$mode" -v d="$duration" -v ticks=$((after - before)) -v hz="$(getconf CLK_TCK)" '
            BEGIN { sub(/new/, "full", mode); sub(/reuse/, "resumed", mode); sub(/-tls1_/, "TLS 1.", mode) }
            / connections in [0-9]+ real seconds/ { sum += $1 }
            END { printf "%-14s handshakes, %s: %.0f a second, %.0f CPU us each\n", name, mode, sum / d, ticks / hz * 1e6 / sum }' "$work"/handshakes.[12]
    done
}

# What a login takes, one after another on one connection: the redirect to the provider, and its answer. The provider
# signs with a process of its own each time, so the time is mostly its; the CPU is the gateway's alone.
cost_of_login() {
    local before after took
    before=$(cpu_ticks "$1")
    took=$(python3 "$root/bench/logins.py" "${url[$1]}" "$logins")
    after=$(cpu_ticks "$1")
    awk -v name="${1//_/ }" -v n="$logins" -v took="$took" -v ticks=$((after - before)) -v hz="$(getconf CLK_TCK)" \
        'BEGIN { printf "%-14s %d logins: %.0f a second, %.0f CPU us each\n", name, n, n / took, ticks / hz * 1e6 / n }'
}

main "$@"
