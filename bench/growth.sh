#!/usr/bin/env bash
# What the gateway takes as things grow: memory, start-up time, requests a second, with more and more tokens, sessions,
# connections, streams, certificates and providers. A row is flat if it is like the ones above it.
#
#   bench/growth.sh [tokens|sessions|idle|busy|streams|certificates|providers...]      SECONDS=5
#   TOKENS="10000 100000 1000000" SESSIONS="1000 10000 30000" CONNECTIONS="10 100 1000 10000" STREAMS="100 1000 10000"
#   CERTIFICATES="1 100 1000 10000" PROVIDERS="1 100 1000"
#
# DOORWARD and BARE name binaries to measure instead of building them. All of it takes some 15 minutes, 2 GB of memory
# and 0.5 GB of disk. A connection or stream takes 2 descriptors: where the limit is below 21,000, a row has as many as
# it allows.
set -euo pipefail

# Bash counts in SECONDS; what the caller asked for is in the environment it was started with.
duration=$(tr '\0' '\n' <"/proc/$$/environ" | sed -n 's/^SECONDS=//p')
duration=${duration:-5}
workers=2

# shellcheck source=bench/setup.sh
source "$(dirname "$0")/setup.sh"

most_connections=20000
client_secret=bench-client-secret-of-some-length
parts=(tokens sessions idle busy streams certificates providers)
read -r -a tokens <<<"${TOKENS:-10000 100000 1000000}"
read -r -a sessions <<<"${SESSIONS:-1000 10000 30000}"
read -r -a connections <<<"${CONNECTIONS:-10 100 1000 10000}"
read -r -a streams <<<"${STREAMS:-100 1000 10000}"
read -r -a certificates <<<"${CERTIFICATES:-1 100 1000 10000}"
read -r -a providers <<<"${PROVIDERS:-1 100 1000}"

main() {
    local wanted=("$@") part
    ((${#wanted[@]})) || wanted=("${parts[@]}")
    for part in "${wanted[@]}"; do
        declare -F "grow_$part" >/dev/null || die "no such part: $part (there are: ${parts[*]})"
    done
    prepare doorward bare
    command -v h2load >/dev/null || die "h2load is missing (nghttp2-client)"
    start_app
    start_providers
    echo "$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1), $(nproc) processors shared with client and app," \
        "Linux $(uname -r), $workers workers, wrk -t1 -d${duration}s, $(ulimit -n) descriptors"
    for part in "${wanted[@]}"; do
        echo
        "grow_$part"
    done
}

# As in setup.sh, for more connections.
start_app() {
    upstream=http://127.0.0.1:$(free_port)
    nginx_conf app 1 >"$work/app.all" <<CONF
server {
    listen ${upstream#http://} backlog=16384;
    location / { default_type text/plain; return 200 "hello from the app\n"; }
}
CONF
    sed 's/worker_connections [0-9]*/worker_connections 30000/' "$work/app.all" >"$work/app.conf"
    spawn app "$nginx" -p "$work" -c "$work/app.conf"
    await "$upstream/" app 200
}

# As many as are asked for, in one process; tokens by ES256, which are quickly made.
start_providers() {
    provider=http://127.0.0.1:$(free_port)
    spawn providers python3 "$root/bench/growth.py" provider "$provider" "$work"
    await "$provider/p0/jwks" providers 200
    run tokens "$provider/p0" "$work" 1 "$work/one"
    token=$(<"$work/one")
}

run() { python3 "$root/bench/growth.py" "$@"; }

# doorward <name> <auth of the route> <store> [how many providers] [further lines] [further listeners]: starts it, and
# leaves in `took` the seconds until it is ready.
doorward() {
    local n begun
    url[$1]=http://127.0.0.1:$(free_port) admin[$1]=127.0.0.1:$(free_port)
    {
        cat <<CONF
listen:
  - {address: "${url[$1]#http://}", max_connections: $most_connections}
${6:-}
admin: {address: "${admin[$1]}", token: $admin_token}
workers: $workers
logging: {level: warn}
limits: {requests_in_flight: 20000}
store: $3
${5:-}
routes:
  - {name: app, from: "${url[$1]}/", to: "$upstream", auth: $2}
providers:
CONF
        for ((n = 0; n < ${4:-1}; n++)); do
            echo "  p$n: {issuer: \"$provider/p$n\", client_id: bench, client_secret: $client_secret}"
        done
    } >"$work/$1.yaml"
    begun=$(now)
    spawn "$1" "$doorward" run -c "$work/$1.yaml"
    until [[ $(curl -s -o /dev/null -w '%{http_code}' "http://${admin[$1]}/readyz") == 200 ]]; do
        kill -0 "${pid[$1]}" 2>/dev/null || die "$1 ended:"$'\n'"$(tail -20 "$work/$1.log")"
        (($(now) - begun < 120000)) || die "$1 is not ready after 2 minutes"
        sleep 0.01
    done
    took=$(seconds_since "$begun")
}

# As many as the descriptors allow, with 1,000 for all else.
within() { echo $(($1 * 2 + 1000 > $(ulimit -n) ? ($(ulimit -n) - 1000) / 2 : $1)); }
now() { date +%s%3N; }
seconds_since() { awk -v ms=$(($(now) - $1)) 'BEGIN { printf "%.2f", ms / 1000 }'; }
rss_kb() { awk '/^VmRSS:/ { print $2 }' "/proc/${pid[$1]}/status"; }
mb() { awk -v kb="$1" 'BEGIN { printf "%.0f", kb / 1024 }'; }
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", a / b }'; }
entries() { metric "$1" "doorward_cache_entries{cache=\"$2\"}"; }
metric() { curl -s "http://${admin[$1]}/metrics" | awk -v name="$2" 'index($0, name) == 1 { print $NF }'; }

# load <name> <connections> <options of wrk...>: leaves `rps` and `p99` (ms). A request that fails ends the script.
load() {
    local name=$1 count=$2 out
    shift 2
    out=$(wrk -t1 -c"$count" -d"${duration}s" --timeout 30s --latency "$@" "${url[$name]}/")
    ! grep -Eq 'Non-2xx|Socket errors' <<<"$out" || die "$name: not every request was answered well:"$'\n'"$out"
    rps=$(awk '/^Requests\/sec:/ { print int($2) }' <<<"$out")
    p99=$(awk '/^ +99%/ { t = $2; print t ~ /us$/ ? t / 1000 : t ~ /ms$/ ? t + 0 : t * 1000 }' <<<"$out")
    ((rps > 0)) || die "$name: nothing was answered:"$'\n'"$out"
}

# any_of <file> <count> <before>: for wrk, a credential from any of the first lines, which are of one length.
any_of() {
    local width
    width=$(head -1 "$1" | wc -c)
    (($(stat -c %s "$1") >= width * $2)) || die "$1 has fewer than $2 lines"
    cat >"$work/any.lua" <<LUA
math.randomseed(os.time())
local file = io.open("$1")
function request()
    file:seek("set", math.random(0, $2 - 1) * $width)
    return wrk.format(nil, nil, {["${3%%:*}"] = "${3#*: }" .. file:read($width - 1)})
end
LUA
}

# ---------------------------------------------------------------------------------------------------- tokens
grow_tokens() {
    local most=${tokens[-1]} count before=0 empty filled held
    [[ -e $work/tokens ]] || run tokens "$provider/p0" "$work" "$most" "$work/tokens"
    doorward tokens '{accept: [bearer]}' '{backend: memory}' 1 \
        "caches: {verified_tokens: {max_entries: $((most * 2)), ttl: 12h}}"
    load tokens 32 -H "Authorization: Bearer $token"
    empty=$(rss_kb tokens)
    echo "| verified tokens | RSS MB | bytes a token | filled, a second | hits, req/s | p99 ms |"
    echo "|---:|---:|---:|---:|---:|---:|"
    echo "| 1 | $(mb "$empty") | - | - | $rps | $p99 |"
    for count in "${tokens[@]}"; do
        filled=$(run fill "${url[tokens]}" "$work/tokens" "$before" "$count")
        any_of "$work/tokens" "$count" "Authorization: Bearer "
        load tokens 32 -s "$work/any.lua"
        held=$(entries tokens verified_tokens)
        ((held >= count)) || die "of $count tokens $held are cached"
        echo "| $count | $(mb "$(rss_kb tokens)") | $((($(rss_kb tokens) - empty) * 1024 / count)) |" \
            "$(awk -v n=$((count - before)) -v s="$filled" 'BEGIN { printf "%.0f", n / s }') | $rps | $p99 |"
        before=$count
    done
    stop tokens
    beyond_the_limit
}

# More tokens than the cache may hold.
beyond_the_limit() {
    local limit=${tokens[0]} count=${tokens[-1]} first last
    doorward limited '{accept: [bearer]}' '{backend: memory}' 1 \
        "caches: {verified_tokens: {max_entries: $limit, ttl: 12h}}"
    run fill "${url[limited]}" "$work/tokens" 0 "$limit" >/dev/null
    first=$(rss_kb limited)
    run fill "${url[limited]}" "$work/tokens" 0 "$((count > 300000 ? 300000 : count))" >/dev/null
    last=$(rss_kb limited)
    (($(entries limited verified_tokens) <= limit)) || die "the cache holds more than $limit tokens"
    echo
    echo "\`max_entries: $limit\`: RSS $(mb "$first") MB when it is full, $(mb "$last") MB after" \
        "$((count > 300000 ? 300000 : count)) tokens; $(entries limited verified_tokens) are held."
    stop limited
}

# -------------------------------------------------------------------------------------------------- sessions
grow_sessions() {
    echo "| sessions | store | RSS MB | bytes a session | file, bytes each | logins a second | hits, req/s | p99 ms |"
    echo "|---:|---|---:|---:|---:|---:|---:|---:|"
    sessions_in memory '{backend: memory}'
    sessions_in file '{backend: file, path: growth.db}'
}

# Hits are of any session: a copy lives for 5 s, so that most requests of many sessions ask the store.
sessions_in() {
    local cookies=$work/cookies.$1 count before=1 empty=0 rate=- file=-
    doorward "$1" '{accept: [session]}' "$2"
    run logins "${url[$1]}" 1 "$cookies" >/dev/null
    load "$1" 32 -H "Cookie: $(head -1 "$cookies")"
    empty=$(rss_kb "$1")
    echo "| 1 | $1 | $(mb "$empty") | - | - | - | $rps | $p99 |"
    for count in "${sessions[@]}"; do
        rate=$(sign_in_often "$1" "$cookies" $((count - before)))
        any_of "$cookies" "$count" "Cookie: "
        load "$1" 32 -s "$work/any.lua"
        [[ $1 != file ]] || file=$(($(stat -c %s "$work/growth.db") / count))
        echo "| $count | $1 | $(mb "$(rss_kb "$1")") | $((($(rss_kb "$1") - empty) * 1024 / count)) | $file | $rate |" \
            "$rps | $p99 |"
        before=$count
    done
    stop "$1"
}

# Two clients, since the gateway waits for the provider.
sign_in_often() {
    local begun half other
    begun=$(now)
    half=$(($3 / 2))
    run logins "${url[$1]}" "$half" "$2.other" >"$work/logins" &
    other=$!
    started+=("$other")
    run logins "${url[$1]}" $(($3 - half)) "$2" >/dev/null
    wait "$other" || die "the logins at $1 failed"
    cat "$2.other" >>"$2"
    rm "$2.other"
    awk -v n="$3" -v ms=$(($(now) - begun)) 'BEGIN { printf "%.0f", n * 1000 / ms }'
}

# ----------------------------------------------------------------------------------------------- connections
# Idle ones have made one request and wait; each row in a fresh process.
grow_idle() {
    local count name
    echo "| idle connections | gateway | RSS MB | KB each |"
    echo "|---:|---|---:|---:|"
    for count in "${connections[@]}"; do
        for name in doorward bare; do
            "start_$name"
            idle "$name" "$(within "$count")"
            stop "$name"
        done
    done
}

start_doorward() { doorward doorward '{accept: [bearer]}' '{backend: memory}'; }

start_bare() {
    url[bare]=http://127.0.0.1:$(free_port)
    spawn bare "$bare" --listen "${url[bare]#http://}" --upstream "${upstream#http://}" --shards "$workers"
    await "${url[bare]}/" bare 200
}

idle() {
    local before after client in out
    load "$1" 8 -H "Authorization: Bearer $token"
    before=$(rss_kb "$1")
    coproc CLIENT { python3 "$root/bench/idle.py" "${url[$1]}" "$2" "Authorization: Bearer $token"$'\r\n'; }
    client=$CLIENT_PID out=${CLIENT[0]} in=${CLIENT[1]}
    started+=("$client")
    read -r -t 60 -u "$out" || die "$1: the idle connections were not made"
    sleep 1
    after=$(rss_kb "$1")
    eval "exec $in>&-"
    wait "$client" || die "$1: it closed idle connections"
    echo "| $2 | $1 | $(mb "$after") | $(ratio $((after - before)) "$2") |"
}

grow_busy() {
    local count name
    echo "| busy connections | gateway | req/s | p99 ms | RSS MB |"
    echo "|---:|---|---:|---:|---:|"
    for name in doorward bare; do "start_$name"; done
    for count in "${connections[@]}"; do
        count=$(within "$count")
        for name in doorward bare; do
            load "$name" "$count" -H "Authorization: Bearer $token"
            echo "| $count | $name | $rps | $p99 | $(mb "$(rss_kb "$name")") |"
        done
    done
    for name in doorward bare; do stop "$name"; done
}

# --------------------------------------------------------------------------------------------------- streams
# Each connection has 100 streams, which an app holds open. Twice in each process: what the first left is used again.
# Listeners share the descriptors by their `max_connections`: the one for TLS must have most of them.
grow_streams() {
    local count upstream most_connections=100
    upstream=http://127.0.0.1:$(free_port)
    spawn late python3 "$root/bench/growth.py" app "$upstream"
    await "$upstream/hold" late 200
    certificate
    secure=127.0.0.1:$(free_port)
    echo "| open streams | RSS MB before | open | after | KB each |"
    echo "|---:|---:|---:|---:|---:|"
    for count in "${streams[@]}"; do
        count=$(within "$count")
        doorward streams '{accept: [bearer]}' '{backend: memory}' 1 "" \
            "  - {address: \"$secure\", max_connections: 20000, tls: {certificate: tls.pem, private_key: tls.key}}"
        hold "$count"
        hold "$count"
        stop streams
    done
    stop late
}

hold() {
    local before open client begun came=0
    before=$(rss_kb streams)
    curl -s "$upstream/hold" >/dev/null
    h2load -n "$1" -c $((($1 + 99) / 100)) -m 100 -T 60 -H "Authorization: Bearer $token" "https://$secure/late" \
        >"$work/h2load" 2>&1 &
    client=$!
    started+=("$client")
    begun=$(now)
    until ((came == $1)); do
        (($(now) - begun < 30000)) || die "of $1 streams $came came:"$'\n'"$(cat "$work/h2load")"
        sleep 0.2
        came=$(curl -s "$upstream/waiting")
    done
    open=$(rss_kb streams)
    curl -s "$upstream/release" >/dev/null
    wait "$client" || true
    grep -q " $1 succeeded, 0 failed, 0 errored" "$work/h2load" || die "streams failed:"$'\n'"$(cat "$work/h2load")"
    sleep 1
    echo "| $1 | $(mb "$before") | $(mb "$open") | $(mb "$(rss_kb streams)") | $(ratio $((open - before)) "$1") |"
}

# ---------------------------------------------------------------------------------------------- certificates
grow_certificates() {
    local count
    echo "| certificates | ready, s | RSS MB | KB each | handshakes/s | CPU us each | reload, s |"
    echo "|---|---:|---:|---:|---:|---:|---:|"
    for count in "${certificates[@]}"; do
        with_certificates "$count" "$count" ""
    done
    with_certificates "$count and a wildcard" "$count" wildcard
}

with_certificates() {
    local listener address made before after
    address=127.0.0.1:$(free_port)
    mkdir -p "$work/certificates"
    listener="  - address: \"$address\""$'\n'"    tls:"$'\n'$(run certificates "$work/certificates" "$2" "$3")
    doorward certificates public '{backend: memory}' 1 "" "$listener"
    before=$(rss_kb certificates)
    [[ -n ${one:-} ]] || one=$before # of the first row: one certificate
    after=$(cpu_ticks certificates)
    made=$(run handshakes "$address" "$2" "$duration") || die "$1: handshakes failed"
    after=$(($(cpu_ticks certificates) - after))
    echo "| $1 | $took | $(mb "$before") | $(ratio $((before - one)) "$2") | ${made#* } |" \
        "$((after * 1000000 / $(getconf CLK_TCK) / ${made% *})) | $(reload certificates) |"
    stop certificates
}

cpu_ticks() { sed 's/.*) //' "/proc/${pid[$1]}/stat" | awk '{ print $12 + $13 }'; }

# The seconds until the configuration has been read again.
reload() {
    local begun
    begun=$(now)
    kill -HUP "${pid[$1]}"
    until [[ $(metric "$1" 'doorward_config_reloads_total{result="ok"}') == 1 ]]; do
        (($(now) - begun < 120000)) || die "$1: no reload in 2 minutes:"$'\n'"$(tail -20 "$work/$1.log")"
        sleep 0.01
    done
    seconds_since "$begun"
}

# ------------------------------------------------------------------------------------------------- providers
# One route accepts the tokens of all.
grow_providers() {
    local count bearer
    echo "| providers | ready, s | RSS MB | KB each | hits, req/s | p99 ms | reload, s |"
    echo "|---:|---:|---:|---:|---:|---:|---:|"
    for count in "${providers[@]}"; do
        bearer=$(seq -s ', p' 0 $((count - 1)))
        doorward providers "{provider: p0, bearer: [p$bearer], accept: [bearer]}" '{backend: memory}' "$count"
        provider_row "$count"
        stop providers
    done
}

provider_row() {
    local rss=0
    await "${url[providers]}/" providers 200
    run tokens "$provider/p$(($1 - 1))" "$work" 100 "$work/last"
    any_of "$work/last" 100 "Authorization: Bearer "
    rss=$(rss_kb providers)
    [[ -n ${alone:-} ]] || alone=$rss # of the first row: one provider
    load providers 32 -s "$work/any.lua"
    echo "| $1 | $took | $(mb "$rss") | $(ratio $((rss - alone)) "$1") | $rps | $p99 | $(reload providers) |"
}

main "$@"
