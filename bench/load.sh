# shellcheck shell=bash disable=SC2154 # sourced by run.sh
# The load, and what it says. Each tool dies where an answer is another than the variant's.

# One run: name, requests a second, p50 and p99 in microseconds, CPU microseconds a request.
measure() {
    local before after n rps p50 p99
    before=$(cpu_ticks "$1")
    load "$1" "$duration" >"$work/load.txt"
    after=$(cpu_ticks "$1")
    read -r n rps p50 p99 <"$work/load.txt"
    count "$1"
    awk -v ticks=$((after - before)) -v hz="$(getconf CLK_TCK)" -v n="$n" -v all="$1 $rps $p50 $p99" \
        'BEGIN { print all, ticks / hz * 1e6 / n }' >>"$work/results"
}

# How many requests a variant has had.
count() {
    local n
    read -r n _ <"$work/load.txt"
    asked[$1]=$((${asked[$1]:-0} + n))
}

# load <variant> <seconds>: prints requests, requests a second, p50 and p99 in microseconds.
load() {
    case $1 in
        *_h2_*) load_h2 "$@" ;;
        *_websocket) load_websocket "$@" ;;
        *) load_wrk "$@" ;;
    esac
}

load_wrk() {
    local options out bad all
    header_options "$1"
    [[ -z ${script[$1]:-} ]] || options+=(-s "${script[$1]}")
    [[ $1 != *_10m ]] || options+=(--timeout 20s) # it may take a while
    out=$(wrk -t"$threads" -c"$connections" -d"${2}s" --latency "${options[@]}" "${url[$1]}${path[$1]:-/}")
    # wrk counts 4xx and 5xx as errors.
    bad=$(sed -n 's/.*Non-2xx or 3xx responses: //p' <<<"$out") all=$(sed -n 's/^ *\([0-9]*\) requests in .*/\1/p' <<<"$out")
    [[ ${answer[$1]:-200} != 4* ]] || bad=$((all - ${bad:-0}))
    if ((${bad:-0} != 0 || all == 0)) || grep -q 'Socket errors' <<<"$out"; then
        die "$1: not every request was answered well:"$'\n'"$out"
    fi
    awk -v n="$all" '
        function us(t) { return t ~ /us$/ ? t + 0 : t ~ /ms$/ ? t * 1e3 : t ~ /m$/ ? t * 6e7 : t * 1e6 }
        /^ +50%/ { p50 = us($2) }
        /^ +99%/ { p99 = us($2) }
        /^Requests\/sec:/ { rps = $2 }
        END { print n, rps, p50, p99 }' <<<"$out"
}

# The name ends in the number of streams that a connection has at once. Where they are many the connections are few, so that
# Doorward can keep as many connections to the app as there are requests at once (256). h2load logs each request: when,
# status, microseconds.
load_h2() {
    local options out log=$work/h2load.log streams=${1##*_} clients=$connections
    ((streams == 1)) || clients=8
    header_options "$1"
    rm -f "$log"
    out=$(h2load -t"$threads" -c"$clients" -m"$streams" -D"$2" --log-file="$log" "${options[@]}" "${url[$1]}/")
    if ! grep -q '^Application protocol: h2$' <<<"$out" || ! grep -q ' 0 failed, 0 errored, 0 timeout$' <<<"$out" ||
        cut -f2 "$log" | grep -qvx 200; then
        die "$1: not every request was answered well:"$'\n'"$out"
    fi
    cut -f3 "$log" | sort -n | awk -v rps="$(sed -n 's/^finished in .*, \(.*\) req\/s.*/\1/p' <<<"$out")" '
        { took[NR] = $1 }
        END { print NR, rps, took[int((NR + 1) * 0.5)], took[int((NR + 1) * 0.99)] }'
}

load_websocket() {
    local headers
    headers=$(head_of "$1")
    headers=${headers//$'\n'/$'\r\n'}$'\r\n'
    python3 "$root/bench/websocket.py" ask "${url[$1]}/" "$connections" "$2" "$headers" ||
        die "$1: not every message came back"
}

# utime + stime of a variant's process and its children, in clock ticks; 0 of a process that nobody named.
cpu_ticks() {
    local p sum=0 fields
    if ((pid[$1])); then
        for p in "${pid[$1]}" $(cat "/proc/${pid[$1]}/task/"*/children); do
            read -r -a fields < <(sed 's/.*) //' "/proc/$p/stat")
            sum=$((sum + fields[11] + fields[12]))
        done
    fi
    echo "$sum"
}
