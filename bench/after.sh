# shellcheck shell=bash disable=SC2154 # sourced by run.sh
# What is measured after the table.

# By the variants that were measured: what each has besides.
after() {
    local v
    for v in "$@"; do
        case $v in
            session_memory | session_file) cost_of_login "$v" ;;
            bearer_many) misses "$v" ;;
            *_logged) lines_logged "$v" ;;
        esac
    done
    for v in "$@"; do
        [[ $v != *_tls ]] || handshakes "$v"
    done
    for v in "$@"; do
        stop "$v"
    done
    for v in "$@"; do
        [[ $v != bare && $v != bearer_hit && $v != session_memory ]] || idle_memory "$v"
    done
}

# The requests of bearer_many must not be hits.
misses() {
    curl -s "http://${admin[$1]}/metrics" | awk -v name="${1//_/ }" '
        /^doorward_cache_requests_total\{cache="verified_tokens",result="hit"\}/ { hits = $2 }
        /^doorward_cache_requests_total\{cache="verified_tokens",result="miss"\}/ { misses = $2 }
        END {
            printf "%-14s %d misses, %d hits of the cache of verified tokens\n", name, misses, hits
            exit misses == 0 || hits > misses / 100
        }' || die "$1: too many hits"
}

# Doorward drops lines where the log's writer cannot keep up, and says so.
lines_logged() {
    local log=$work/$1.log lines
    [[ $1 != nginx_* ]] || log=$work/$1.access
    lines=$(wc -l <"$log")
    awk -v name="${1//_/ }" -v lines="$lines" -v n="${asked[$1]}" 'BEGIN {
        printf "%-14s %d lines in the access log, of %d requests\n", name, lines, n
        exit lines < n / 2
    }' || die "$1: most requests have no line"
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
