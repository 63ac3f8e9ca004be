#!/usr/bin/env bash
# Whether one client's flood holds another client's small request: a probe asks every 5 to 10 ms on its own connection,
# while another client of another address does its worst. The same for the build without a gate and for nginx, where
# they know of such a thing, so that what the machine does can be told from what the gateway does. One worker each.
#
#   bench/fairness.sh [row...]        SAMPLES=2000
#
# DOORWARD and BARE name binaries to measure instead of building them. With two processors or more the gateway has the
# first, and the clients, the app and the provider share the second; for root the gateway, the app and the probe go
# before all else. The target is 5 ms at p99: what is above it stands in bold.
set -euo pipefail

samples=${SAMPLES:-2000}
target=5
workers=1

# shellcheck source=bench/setup.sh
source "$(dirname "$0")/setup.sh"

# Logins come before refusals: of a client whose tokens were refused too often the gateway takes no code either.
rows=(nothing hits hits_1000 connections new_tokens login_redirects logins downloads slow_readers uploads large_heads
    cookies handshakes http2 sessions session_cookies random_tokens random_tokens_1000 forged_tokens metrics decisions)
gateways=(doorward bare nginx)
declare -A secure=() expects=() skips=()
floods=()
inside=() beside=(nice -n 5) first=()
group= # this session's own nice, to be put back

main() {
    local wanted=("$@") row gateway
    ((${#wanted[@]})) || wanted=("${rows[@]}")
    for row in "${wanted[@]}"; do
        declare -F "beside_$row" >/dev/null || die "no such row: $row (there are: ${rows[*]})"
    done
    prepare doorward bare
    trap 'unpin; cleanup' EXIT
    pin
    install_more
    start_app
    certificate
    start_doorward_twice
    start_bare
    start_nginx_twice
    scripts
    for gateway in "${gateways[@]}"; do
        await "${url[$gateway]}/" "$gateway" 200
        probe "$gateway" 100 >/dev/null
    done
    echo "| beside | doorward | flood/s | RSS MB | bare | flood/s | nginx | flood/s |"
    echo "|---|---:|---:|---:|---:|---:|---:|---:|"
    for row in "${wanted[@]}"; do
        measure_row "$row"
    done
    conditions
}

# Where the kernel groups processes by session, `nice` counts only within a group, and the group has one of its own.
pin() {
    if (($(nproc) > 1)); then
        inside=(taskset -c 0)
        beside=(taskset -c 1 nice -n 5)
        first=(taskset -c 1)
    fi
    ((EUID == 0)) || return 0
    inside+=(nice -n -15) first+=(nice -n -15)
    [[ $(cat /proc/sys/kernel/sched_autogroup_enabled 2>/dev/null) == 1 ]] || return 0
    # shellcheck disable=SC2016 # for the other shell
    beside+=(setsid bash -c 'echo 5 >/proc/self/autogroup; exec "$@"' flood)
    group=$(sed 's/.* nice //' /proc/self/autogroup)
    echo -20 >/proc/self/autogroup
}

unpin() { [[ -z $group ]] || echo "$group" >/proc/self/autogroup; }

install_more() {
    local packages=()
    command -v h2load >/dev/null || packages+=(nghttp2-client)
    ((${#packages[@]})) || return 0
    local sudo=()
    ((EUID == 0)) || sudo=(sudo)
    DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y -qq --no-install-recommends "${packages[@]}" >&2
}

# ------------------------------------------------------------------------------------------- what is measured
# It has small and large answers, and reads a whole body before it answers.
start_app() {
    local port
    port=$(free_port)
    mkdir -p "$work/files" "$work/tmp"
    head -c 10000000 /dev/zero >"$work/files/10mb"
    head -c 1000000 /dev/zero >"$work/files/1mb"
    nginx_conf app 1 >"$work/app.conf" <<CONF
server {
    listen 127.0.0.1:$port;
    large_client_header_buffers 8 128k;
    client_max_body_size 0;
    client_body_buffer_size 11m;
    location / { default_type text/plain; return 200 "hello from the app\n"; }
    location /files/ { root $work; }
    location /upload {
        proxy_pass http://127.0.0.1:$port/;
        proxy_pass_request_body off;
        proxy_set_header Content-Length "";
    }
}
CONF
    upstream=http://127.0.0.1:$port
    spawn app "${first[@]}" "$nginx" -p "$work" -c "$work/app.conf"
    await "$upstream/upload" app 200
}

# The cache of verified tokens is small, so that a few thousand tokens are new ones again and again.
start_doorward_twice() {
    url[doorward]=http://127.0.0.1:$(free_port) secure[doorward]=https://127.0.0.1:$(free_port)
    admin[doorward]=127.0.0.1:$(free_port)
    cat >"$work/doorward.yaml" <<CONF
listen:
  - {address: "${url[doorward]#http://}"}
  - {address: "${secure[doorward]#https://}", tls: {certificate: tls.pem, private_key: tls.key}}
admin: {address: "${admin[doorward]}", token: $admin_token}
workers: $workers
logging: {level: warn}
caches: {verified_tokens: {max_entries: 100}}
providers:
  bench: {issuer: "$provider", client_id: bench, client_secret: bench-client-secret-of-some-length}
routes:
  - {name: app, from: "${url[doorward]}/", to: "$upstream", auth: {accept: [session, bearer]}}
store: {backend: memory}
CONF
    spawn doorward "${inside[@]}" "$doorward" run -c "$work/doorward.yaml"
    await "http://${admin[doorward]}/readyz" doorward 200
}

start_bare() {
    url[bare]=http://127.0.0.1:$(free_port)
    spawn bare "${inside[@]}" \
        "$bare" --listen "${url[bare]#http://}" --upstream "${upstream#http://}" --shards "$workers"
}

start_nginx_twice() {
    url[nginx]=http://127.0.0.1:$(free_port) secure[nginx]=https://127.0.0.1:$(free_port)
    nginx_conf nginx "$workers" >"$work/nginx.conf" <<CONF
upstream app { server ${upstream#http://}; keepalive 64; }
server {
    listen ${url[nginx]#http://};
    listen ${secure[nginx]#https://} ssl http2;
    ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate $work/tls.pem; ssl_certificate_key $work/tls.key;
    large_client_header_buffers 8 128k;
    client_max_body_size 0;
    proxy_request_buffering off;
    proxy_max_temp_file_size 0;
    location / { proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; }
}
CONF
    spawn nginx "${inside[@]}" "$nginx" -p "$work" -c "$work/nginx.conf"
}

# ------------------------------------------------------------------------------------------------- the floods
# For wrk: what a request is, where it is not the same each time, or too long for a command line.
scripts() {
    local bearer="wrk.headers[\"Authorization\"] = \"Bearer $token\""
    cat >"$work/random_tokens.lua" <<LUA
math.randomseed(os.time())
local start, n = math.random(1, 2^30), 0
function request()
    n = n + 1
    return wrk.format(nil, nil, {Authorization = string.format("Bearer random-%010x-%010x", start, n)})
end
LUA
    # The claims are good and the key is known: only the signature tells.
    cat >"$work/forged_tokens.lua" <<LUA
math.randomseed(os.time())
local token, start, n = "$token", math.random(1, 2^30), 0
function request()
    n = n + 1
    local forged = token:sub(1, -60) .. string.format("%010x%010x", start, n) .. token:sub(-39)
    return wrk.format(nil, nil, {Authorization = "Bearer " .. forged})
end
LUA
    cat >"$work/new_tokens.lua" <<LUA
local tokens, n = {}, 0
for line in io.lines("$work/tokens") do tokens[#tokens + 1] = "Bearer " .. line end
function request()
    n = n % #tokens + 1
    return wrk.format(nil, nil, {Authorization = tokens[n]})
end
LUA
    cat >"$work/upload.lua" <<LUA
wrk.method = "POST"
wrk.body = string.rep("x", 10000000)
$bearer
LUA
    cat >"$work/large_heads.lua" <<LUA
for n = 1, 110 do wrk.headers["X-Field-" .. n] = string.rep("y", 515) end
$bearer
LUA
    cat >"$work/cookies.lua" <<LUA
local cookies = {}
for n = 1, 4000 do cookies[n] = string.format("c%04d=abcdefg", n) end
wrk.headers["Cookie"] = table.concat(cookies, "; ")
$bearer
LUA
    cat >"$work/session_cookies.lua" <<LUA
local cookies = {}
for n = 1, 1000 do cookies[n] = string.format("doorward=%048d", n) end
wrk.headers["Cookie"] = table.concat(cookies, "; ")
wrk.headers["Accept"] = "application/json"
LUA
}

# What each row does, to $at and $tls. `skips` names who has no such thing.
beside_nothing() { :; }
beside_hits() { flood wrk -d1h --timeout 30s -t1 -c32 -H "Authorization: Bearer $token" "$at/"; }
beside_hits_1000() { flood wrk -d1h --timeout 30s -t1 -c1000 -H "Authorization: Bearer $token" "$at/"; }
beside_connections() {
    flood wrk -d1h --timeout 30s -t1 -c32 -H "Authorization: Bearer $token" -H "Connection: close" "$at/"
}
beside_random_tokens() { flood wrk -d1h --timeout 30s -t1 -c32 -s "$work/random_tokens.lua" "$at/"; }
beside_random_tokens_1000() { flood wrk -d1h --timeout 30s -t1 -c1000 -s "$work/random_tokens.lua" "$at/"; }
beside_forged_tokens() { flood wrk -d1h --timeout 30s -t1 -c1000 -s "$work/forged_tokens.lua" "$at/"; }
beside_new_tokens() {
    [[ -e $work/tokens ]] || python3 "$root/bench/tokens.py" "$provider" "$work" 4000 >"$work/tokens"
    flood wrk -d1h --timeout 30s -t1 -c32 -s "$work/new_tokens.lua" "$at/"
}
beside_downloads() { flood wrk -d1h --timeout 30s -t1 -c8 -H "Authorization: Bearer $token" "$at/files/10mb"; }
beside_slow_readers() {
    flood python3 "$root/bench/fairness.py" slow "$at/files/10mb" 64 "Authorization: Bearer $token"$'\r\n'
}
beside_uploads() { flood wrk -d1h --timeout 30s -t1 -c8 -s "$work/upload.lua" "$at/upload"; }
beside_large_heads() { flood wrk -d1h --timeout 30s -t1 -c32 -s "$work/large_heads.lua" "$at/"; }
beside_cookies() { flood wrk -d1h --timeout 30s -t1 -c32 -s "$work/cookies.lua" "$at/"; }
beside_session_cookies() { flood wrk -d1h --timeout 30s -t1 -c32 -s "$work/session_cookies.lua" "$at/"; }
beside_handshakes() {
    again '(\d+) connections in \d+ real seconds' 2 openssl s_time -connect "${tls#https://}" -new -tls1_3 -time 2
}
beside_http2() {
    again ' (\d+) succeeded, 0 failed, 0 errored' 1 \
        h2load -n 300 -c 1 -m 100 -H "Authorization: Bearer $token" "$tls/files/1mb"
}
beside_login_redirects() { flood wrk -d1h --timeout 30s -t1 -c32 -H "Accept: text/html" "$at/"; }
beside_logins() { again 20 4 python3 "$root/bench/logins.py" "$at" 20; }
beside_metrics() { flood wrk -d1h --timeout 30s -t1 -c4 "http://${admin[doorward]}/metrics"; }
beside_decisions() { ask_admin decisions?last=1000; }
beside_sessions() { ask_admin sessions?user=alice; }
ask_admin() {
    flood wrk -d1h --timeout 30s -t1 -c4 -H "Authorization: Bearer $admin_token" "http://${admin[doorward]}/api/v1/$1"
}

for row in random_tokens random_tokens_1000 forged_tokens session_cookies; do
    expects[$row]=refusals
    skips[$row]="bare nginx"
done
for row in new_tokens login_redirects logins metrics decisions sessions; do skips[$row]="bare nginx"; done
skips[handshakes]=bare skips[http2]=bare # it has no TLS

flood() {
    "${beside[@]}" "$@" >"$work/flood" 2>&1 &
    floods+=("$!")
    started+=("$!")
}

again() { flood python3 "$root/bench/fairness.py" repeat "$@"; }

# ------------------------------------------------------------------------------------------------ measurement
measure_row() {
    local gateway line="| ${1//_/ } |"
    for gateway in "${gateways[@]}"; do
        if [[ " ${skips[$1]:-} " == *" $gateway "* ]]; then
            line+=" - | - |"
            [[ $gateway != doorward ]] || line+=" - |"
            continue
        fi
        measure "$1" "$gateway"
        line+=" $took | $rate |"
        [[ $gateway != doorward ]] || line+=" $(rss_mb doorward) |"
    done
    echo "$line"
}

# measure <row> <gateway>: leaves `took` and `rate`.
measure() {
    local at=${url[$2]} tls=${secure[$2]:-} p50 p99 most seen flood
    floods=() rate=-
    : >"$work/flood"
    probe "$2" 100 >/dev/null # a process that was idle has lost its pages
    "beside_$1"
    sleep 2
    seen=$(probe "$2" "$samples") || die "$1: the probe of $2 failed:"$'\n'"$(tail -5 "$work/flood" "$work/$2.log")"
    read -r p50 p99 most <<<"$seen"
    for flood in "${floods[@]}"; do
        kill -0 "$flood" 2>/dev/null || die "$1: the flood at $2 ended by itself:"$'\n'"$(tail -20 "$work/flood")"
        kill -INT "$flood"
        wait "$flood" || true
        judge "$1" "$2"
    done
    kill -0 "${pid[$2]}" || die "$1: $2 ended:"$'\n'"$(tail -20 "$work/$2.log")"
    awk -v p="$p99" -v t="$target" 'BEGIN { exit !(p > t) }' && p99="**$p99**"
    took="$p50 / $p99 / $most"
}

probe() {
    "${first[@]}" python3 "$root/bench/fairness.py" probe "${url[$1]}" "$2" "Authorization: Bearer $token"$'\r\n'
}

# Leaves the flood's rate; ends the script if its answers were others than the row expects.
judge() {
    local bad all
    rate=$(awk '/^(rate|Requests\/sec:)/ { print int($2) }' "$work/flood")
    [[ -n $rate ]] || die "$1: no result of the flood at $2:"$'\n'"$(tail -20 "$work/flood")"
    ((rate > 0)) || die "$1: the flood at $2 did nothing:"$'\n'"$(tail -20 "$work/flood")"
    ! grep -q '^failed' "$work/flood" || die "$1: the flood at $2 failed:"$'\n'"$(tail -20 "$work/flood")"
    all=$(sed -n 's/^ *\([0-9]*\) requests in .*/\1/p' "$work/flood")
    [[ -n $all ]] || return 0
    bad=$(sed -n 's/.*Non-2xx or 3xx responses: //p' "$work/flood")
    [[ ${expects[$1]:-} != refusals ]] || bad=$((all - ${bad:-0}))
    if ((${bad:-0} != 0)) || grep -q 'Socket errors' "$work/flood"; then
        die "$1: $2 answered not as expected:"$'\n'"$(cat "$work/flood")"
    fi
}

rss_mb() { awk '/^VmRSS:/ { printf "%.0f", $2 / 1024 }' "/proc/${pid[$1]}/status"; }

conditions() {
    echo
    echo "The probe's p50 / p99 / longest in ms, $samples samples a row, 5 to 10 ms apart; above $target ms at p99 in" \
        "bold. RSS of doorward after the row; the whole table is one process."
    echo "$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1), $(nproc) processors, Linux $(uname -r)," \
        "$("$nginx" -v 2>&1), one worker each, on: ${inside[*]:-any}; app and probe on: ${first[*]:-any};" \
        "flood on: ${beside[*]:0:6}"
}

main "$@"
