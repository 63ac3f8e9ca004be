#!/usr/bin/env bash
# What the gate costs: the gateway, the same Pingora build without a gate (bench/bare.rs) and nginx, side by
# side on loopback before one upstream. The variants take turns; each figure is the median of RUNS runs.
#
#   bench/run.sh [variant...]        RUNS=5 SECONDS=5 IDLE=1000 LOGINS=200
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

root=$(cd "$(dirname "$0")/.." && pwd)
token= # until there is a provider
declare -A pid=() url=() cookie=() # by variant; cookie: of its session
started=()

# ---------------------------------------------------------------- variants: one function each, in this order
all=(nginx bare bearer_hit session_memory session_file)

start_nginx() {
    url[nginx]=http://127.0.0.1:$(free_port)
    nginx_conf proxy "$workers" >"$work/proxy.conf" <<EOF
upstream app { server ${upstream#http://}; keepalive 64; }
server {
    listen ${url[nginx]#http://};
    location / { proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; }
}
EOF
    spawn nginx "$nginx" -p "$work" -c "$work/proxy.conf"
}

start_bare() {
    url[bare]=http://127.0.0.1:$(free_port)
    spawn bare "$bare" --listen "${url[bare]#http://}" --upstream "${upstream#http://}" --shards "$workers"
}

start_bearer_hit() { start_doorward bearer_hit '[bearer]' '{backend: memory}'; }

# A session that the process holds a copy of; when the copy's time is over, the store is asked again.
start_session_memory() { start_session session_memory '{backend: memory}'; }
start_session_file() { start_session session_file '{backend: file, path: session_file.db}'; }

start_session() {
    start_doorward "$1" '[session, bearer]' "$2"
    sign_in "$1"
}

# start_doorward <variant> <accept> <store>
start_doorward() {
    local port admin config=$work/$1.yaml
    port=$(free_port) admin=127.0.0.1:$(free_port)
    url[$1]=http://127.0.0.1:$port
    cat >"$config" <<EOF
listen: [127.0.0.1:$port]
admin: {address: "$admin", token: bench-admin-token}
workers: $workers
logging: {level: warn}
providers:
  bench:
    issuer: $provider
    client_id: bench
    client_secret: bench-client-secret-of-some-length
    audiences: [bench]
routes:
  - name: app
    from: ${url[$1]}/
    to: $upstream
    auth: {provider: bench, accept: $2}
store: $3
EOF
    spawn "$1" "$doorward" run -c "$config"
    await "http://$admin/readyz" "$1"
}

# ---------------------------------------------------------------------------------------------- the bench
main() {
    local variants=("$@")
    ((${#variants[@]})) || variants=("${all[@]}")
    local v round
    for v in "${variants[@]}"; do
        declare -F "start_$v" >/dev/null || die "no such variant: $v (there are: ${all[*]})"
    done
    work=$(mktemp -d)
    trap cleanup EXIT
    trap 'exit 130' INT TERM
    ulimit -n "$(ulimit -Hn)"
    install_missing
    build "${variants[@]}"
    start_upstream
    start_provider
    for v in "${variants[@]}"; do
        "start_$v"
        await "${url[$v]}/" "$v"
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
        [[ -z ${cookie[$v]:-} ]] || cost_of_login "$v"
    done
    for v in "${variants[@]}"; do
        stop "$v"
    done
    echo
    for v in "${variants[@]}"; do
        [[ $v == nginx ]] || idle_memory "$v"
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
    out=$(wrk -t"$threads" -c"$connections" -d"${2}s" --latency "${more[@]}" "${url[$1]}/")
    if grep -qE 'Non-2xx|Socket errors' <<<"$out"; then
        die "$1: not every request was answered well:"$'\n'"$out"
    fi
    echo "$out"
}

# The header lines that say who is calling. Every variant is sent as many bytes, whether it looks at them or not.
head_of() {
    local token_line="Authorization: Bearer $token" cookie_line="Cookie: ${cookie[$1]:-}" padding
    if [[ -z ${cookie[$1]:-} ]]; then
        echo "$token_line"
    else
        printf -v padding '%*s' $((${#token_line} - ${#cookie_line} - 2 - 11)) '' # its line's end, and `X-Padding: `
        printf '%s\nX-Padding: %s\n' "$cookie_line" "${padding// /x}"
    fi
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
    echo "upstream nginx with 1 worker, wrk -t$threads -c$connections -d${duration}s, medians of $runs runs," \
        "credential and padding $((${#token} + 24)) bytes"
    echo
    python3 - "$work/results" "$@" <<'EOF'
import statistics, sys
path, *names = sys.argv[1:]
rows = [line.split() for line in open(path)]
def median(name, column):
    return statistics.median(float(row[column]) for row in rows if row[0] == name)
def against(name, other):
    return f"{median(name, 1) / median(other, 1):.3f}" if other in names else "-"
print(f"| {'variant':<14} | {'req/s':>8} | {'/ bare':>7} | {'/ nginx':>7} | {'p50 us':>7} | {'p99 us':>7} | {'CPU us/req':>10} |")
print(f"|{'-' * 16}|{'-' * 9}:|{'-' * 8}:|{'-' * 8}:|{'-' * 8}:|{'-' * 8}:|{'-' * 11}:|")
for name in names:
    rps, p50, p99, cpu = (median(name, column) for column in range(1, 5))
    print(f"| {name.replace('_', ' '):<14} | {rps:>8.0f} | {against(name, 'bare'):>7} | {against(name, 'nginx'):>7} "
          f"| {p50:>7.0f} | {p99:>7.0f} | {cpu:>10.2f} |")
EOF
}

# Memory that an idle client connection holds, in a fresh process: it has made one request, and waits.
idle_memory() {
    local before after client in out headers
    "start_$1"
    await "${url[$1]}/" "$1"
    headers=$(head_of "$1")
    headers=${headers//$'\n'/$'\r\n'}$'\r\n'
    before=$(rss_kb "$1")
    coproc CLIENT { idle_client "${url[$1]}" "$idle" "$headers"; }
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

# Makes the requests a few at a time, so that the upstream's connections do not count; says so; then waits
# for stdin to close.
idle_client() {
    python3 -c '
import asyncio, sys, urllib.parse
url, count, headers = urllib.parse.urlsplit(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
head = f"GET / HTTP/1.1\r\nHost: {url.netloc}\r\n{headers}\r\n".encode()
async def one(turn):
    async with turn:
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
        writer.write(head)
        answer = await reader.readuntil(b"\r\n\r\n")
        assert b" 200 " in answer.split(b"\r\n")[0], answer
        await reader.readexactly(int(answer.lower().split(b"content-length:")[1].split(b"\r\n")[0]))
        return reader, writer
async def main():
    turn = asyncio.Semaphore(8)
    held = await asyncio.gather(*(one(turn) for _ in range(count)))
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    assert not any(reader.at_eof() for reader, _ in held), "the server closed an idle connection"
asyncio.run(main())
' "$@"
}

# What a login takes, one after another on one connection: the redirect to the provider, and its answer. The provider
# signs with a process of its own each time, so the time is mostly its; the CPU is the gateway's alone.
cost_of_login() {
    local before after took
    before=$(cpu_ticks "$1")
    took=$(sign_in_often "${url[$1]}" "$logins")
    after=$(cpu_ticks "$1")
    awk -v name="${1//_/ }" -v n="$logins" -v took="$took" -v ticks=$((after - before)) -v hz="$(getconf CLK_TCK)" \
        'BEGIN { printf "%-14s %d logins: %.0f a second, %.0f CPU us each\n", name, n, n / took, ticks / hz * 1e6 / n }'
}

# Prints the seconds that it took.
sign_in_often() {
    python3 -c '
import http.client, sys, time, urllib.parse
url, count = urllib.parse.urlsplit(sys.argv[1]), int(sys.argv[2])
gateway = http.client.HTTPConnection(url.netloc)
def ask(path, headers):
    gateway.request("GET", path, headers=headers)
    answer = gateway.getresponse()
    answer.read()
    assert answer.status == 302, (path, answer.status)
    return answer
begun = time.monotonic()
for _ in range(count):
    sent = ask("/", {"Accept": "text/html"})
    asked = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(sent.headers["Location"]).query))
    code = urllib.parse.urlencode({"code": asked["nonce"], "state": asked["state"]})  # as /authorize would answer
    flow = sent.headers["Set-Cookie"].split(";")[0]
    done = ask(f"/oauth2/callback?{code}", {"Accept": "text/html", "Cookie": flow})
    assert any(c.startswith("doorward=") for c in done.headers.get_all("Set-Cookie")), done.headers
print(time.monotonic() - begun)
' "$@"
}

# --------------------------------------------------------------------------------------------- the set-up
install_missing() {
    local packages=()
    nginx=$(PATH=$PATH:/usr/sbin command -v nginx) || packages+=(nginx-light)
    command -v wrk >/dev/null || packages+=(wrk)
    command -v python3 >/dev/null || packages+=(python3-minimal)
    command -v openssl >/dev/null || packages+=(openssl)
    command -v curl >/dev/null || packages+=(curl)
    ((${#packages[@]})) || return 0
    local sudo=()
    ((EUID == 0)) || sudo=(sudo)
    "${sudo[@]}" apt-get update -qq >&2
    DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y -qq --no-install-recommends "${packages[@]}" >&2
    nginx=$(PATH=$PATH:/usr/sbin command -v nginx)
}

# The example is built by itself: its build also links what the tests need, which the gateway must not carry.
build() {
    local v target=${CARGO_TARGET_DIR:-$root/target}/dist
    doorward=${DOORWARD:-} bare=${BARE:-}
    for v in "$@"; do
        if [[ $v == bare && -z $bare ]]; then
            (cd "$root" && cargo build --profile dist --no-default-features --example bare >&2)
            bare=$target/examples/bare
        elif [[ $v != bare && $v != nginx && -z $doorward ]]; then
            (cd "$root" && cargo build --profile dist --no-default-features >&2)
            doorward=$target/doorward
        fi
    done
}

# One nginx with one worker is the app.
start_upstream() {
    upstream=http://127.0.0.1:$(free_port)
    nginx_conf upstream 1 >"$work/upstream.conf" <<EOF
server {
    listen ${upstream#http://};
    location / { default_type text/plain; return 200 "hello from the app\n"; }
}
EOF
    spawn upstream "$nginx" -p "$work" -c "$work/upstream.conf"
    await "$upstream/" upstream
}

# An OpenID provider that lets everybody in. The access token that it gives is what the other variants are sent.
start_provider() {
    provider=http://127.0.0.1:$(free_port)
    openssl genrsa -out "$work/key.pem" 2048 2>/dev/null
    provider_program >"$work/provider.py"
    spawn provider python3 "$work/provider.py" "$provider" "$work/key.pem" "$work/token"
    await "$provider/jwks" provider
    token=$(<"$work/token")
}

# Signs in as a browser does, and keeps the session's cookie for wrk.
sign_in() {
    local jar=$work/$1.jar status
    rm -f "$jar"
    status=$(curl -s -m 10 -L -b "$jar" -c "$jar" -o /dev/null -w '%{http_code}' "${url[$1]}/") || true
    cookie[$1]=$(awk '$6 == "doorward" { print $6 "=" $7 }' "$jar")
    [[ $status == 200 && -n ${cookie[$1]} ]] || die "$1: the login ended with $status:"$'\n'"$(tail -20 "$work/$1.log")"
}

# nginx_conf <name> <workers>, the servers on stdin
nginx_conf() {
    ((EUID != 0)) || echo "user root;"
    cat <<EOF
worker_processes $2;
daemon off;
pid $work/$1.pid;
error_log stderr error;
events { worker_connections 8192; }
http {
    access_log off;
    keepalive_timeout 75s;
    keepalive_requests 100000000;
    client_body_temp_path $work/tmp; proxy_temp_path $work/tmp; fastcgi_temp_path $work/tmp;
    uwsgi_temp_path $work/tmp; scgi_temp_path $work/tmp;
EOF
    sed 's/keepalive 64;/keepalive 64; keepalive_requests 100000000;/'
    echo "}"
}

# Whoever comes is alice. The code is the request's nonce, so that nothing has to be kept.
provider_program() {
    cat <<'EOF'
import base64, http.server, json, subprocess, sys, time, urllib.parse
issuer, key, token_file = sys.argv[1:]
SIZE = 1450 - len("Bearer ")  # as large as the access tokens that providers make
def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
def openssl(*args, data=None):
    return subprocess.run(["openssl", *args], input=data, stdout=subprocess.PIPE, check=True).stdout
def signed(kind, **more):
    now = int(time.time())
    header = {"alg": "RS256", "typ": kind, "kid": "bench"}
    claims = {"iss": issuer, "sub": "5f0c9a3e-1f5b-4b0a-9a57-0d2f0c6c1a11", "aud": "bench", "iat": now,
              "exp": now + 86400, "preferred_username": "alice", "name": "Alice Example", "email": "alice@example.com",
              "email_verified": True, "groups": ["admins", "operators", "grafana-editors"], **more}
    head = ".".join(b64(json.dumps(part, separators=(",", ":")).encode()) for part in (header, claims))
    return f"{head}.{b64(openssl('dgst', '-sha256', '-sign', key, data=head.encode()))}"
def access_token(padding=0):
    return signed("at+jwt", jti="d2f1c0de-0000-4000-8000-000000000001", scope="openid profile email api:read",
                  padding="x" * padding)
ACCESS = access_token((SIZE - len(access_token())) * 3 // 4)
modulus = openssl("rsa", "-in", key, "-modulus", "-noout").decode().strip().partition("=")[2]
DOCUMENTS = {
    "/.well-known/openid-configuration": {
        "issuer": issuer, "jwks_uri": f"{issuer}/jwks", "authorization_endpoint": f"{issuer}/authorize",
        "token_endpoint": f"{issuer}/token", "response_types_supported": ["code"],
        "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["RS256"],
        "scopes_supported": ["openid", "profile", "email"]},
    "/jwks": {"keys": [{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "bench",
                        "n": b64(bytes.fromhex(modulus)), "e": "AQAB"}]}}
class Provider(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # a whole answer at once
    def do_GET(self):
        path, _, query = self.path.partition("?")
        if path == "/authorize":
            asked = dict(urllib.parse.parse_qsl(query))
            code = urllib.parse.urlencode({"code": asked["nonce"], "state": asked["state"]})
            self.answer(302, {"Location": f"{asked['redirect_uri']}?{code}"}, b"")
        else:
            self.answer(200, {"Content-Type": "application/json"}, json.dumps(DOCUMENTS[path]).encode())
    def do_POST(self):
        form = dict(urllib.parse.parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
        tokens = {"access_token": ACCESS, "token_type": "Bearer", "expires_in": 36000, "refresh_token": "r" * 700,
                  "id_token": signed("JWT", nonce=form["code"])}
        self.answer(200, {"Content-Type": "application/json"}, json.dumps(tokens).encode())
    def answer(self, status, headers, body):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": len(body)}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
    def log_request(self, *_):
        pass
with open(token_file, "w") as file:
    file.write(ACCESS)
address = urllib.parse.urlsplit(issuer)
http.server.ThreadingHTTPServer((address.hostname, address.port), Provider).serve_forever()
EOF
}

spawn() { # spawn <name> <command...>
    local name=$1
    shift
    "$@" >"$work/$name.log" 2>&1 &
    pid[$name]=$!
    started+=("$!")
}

stop() {
    kill "${pid[$1]}" 2>/dev/null || true
    wait "${pid[$1]}" 2>/dev/null || true
}

# await <url> <name>: until it answers 200.
await() {
    local tries line ask=(curl -s -m 2)
    while IFS= read -r line; do
        ask+=(-H "$line")
    done < <(head_of "$2")
    for ((tries = 0; tries < 150; tries++)); do
        kill -0 "${pid[$2]}" 2>/dev/null || die "$2 ended:"$'\n'"$(tail -20 "$work/$2.log")"
        [[ $("${ask[@]}" -o /dev/null -w '%{http_code}' "$1") != 200 ]] || return 0
        sleep 0.1
    done
    "${ask[@]}" -i "$1" >&2 || true
    die "$2: no 200 from $1:"$'\n'"$(tail -20 "$work/$2.log")"
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

die() {
    echo "bench: $1" >&2
    exit 1
}

cleanup() {
    local p
    trap '' INT TERM
    for p in "${started[@]}"; do
        kill "$p" 2>/dev/null || true
    done
    wait 2>/dev/null || true
    rm -rf "$work"
}

main "$@"
