# shellcheck shell=bash disable=SC2154,SC2034 # sourced by run.sh and instructions.sh
# What the measurements need around them: an app, a provider, processes that end with the script.

PATH=$PATH:/usr/sbin # nginx, haproxy, apache2
export PYTHONDONTWRITEBYTECODE=1
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
token= # until there is a provider
redis= # the port, where one was started
admin_token=bench-admin-token
modules=/usr/lib/apache2/modules
app_connections=64 # kept by an nginx for the next request
under=() # what a gateway is started under
tries=150
# By variant. answer: another status than 200. credential: header lines in place of a bearer token. cookie: of its session.
# script: for wrk. level: of Doorward's log. asked: requests so far.
declare -A pid=() url=() admin=() answer=() credential=() cookie=() path=() script=() level=() asked=()
started=()

prepare() {
    work=$(mktemp -d)
    trap cleanup EXIT
    trap 'exit 130' INT TERM
    ulimit -n "$(ulimit -Hn)"
    install_missing "$@"
    nginx=$(command -v nginx)
    build "$@"
    start_upstream
    start_provider
}

# The header lines that say who is calling. Every variant is sent as many bytes, whether it looks at them or not.
head_of() {
    local wanted="Authorization: Bearer $token" line=${credential[$1]:-} padding length
    [[ -z ${cookie[$1]:-} ]] || line="Cookie: ${cookie[$1]}"
    echo "${line:-$wanted}"
    length=$((${#wanted} - ${#line} - 2 - 11)) # its line's end, and `X-Padding: `
    if [[ -n $line ]] && ((length > 0)); then
        printf -v padding '%*s' "$length" ''
        printf 'X-Padding: %s\n' "${padding// /x}"
    fi
}

# The same as options of curl, wrk and h2load, in `options`.
header_options() {
    local line
    options=()
    while IFS= read -r line; do
        options+=(-H "$line")
    done < <(head_of "$1")
}

install_missing() {
    local packages=() sudo=() failed=0 forbidden=/usr/sbin/policy-rc.d
    needs nginx nginx-light
    ! declare -F load_wrk >/dev/null || needs wrk wrk
    needs python3 python3
    needs openssl openssl
    needs curl curl
    [[ "$*" != *redis* ]] || needs redis-server redis-server
    [[ "$*" != *_h2_* ]] || needs h2load nghttp2-client
    [[ " $* " != *" haproxy "* ]] || needs haproxy haproxy
    # Not apache2, whose service is none of ours.
    [[ "$*" != *apache_* || -e $modules/mod_auth_openidc.so ]] || packages+=(apache2-bin libapache2-mod-auth-openidc)
    ((${#packages[@]})) || return 0
    [[ -z ${INSTALL_NOTHING:-} ]] || die "missing: ${packages[*]}"
    ((EUID == 0)) || sudo=(sudo)
    # Debian starts the services that it installs, unless this file forbids it.
    [[ ! -e $forbidden ]] || forbidden=
    [[ -z $forbidden ]] || "${sudo[@]}" sh -c "printf '#!/bin/sh\nexit 101\n' >$forbidden; chmod 755 $forbidden"
    "${sudo[@]}" apt-get update -qq >&2 || true
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${packages[@]}" >&2 || failed=1
    [[ -z $forbidden ]] || "${sudo[@]}" rm "$forbidden"
    ((failed == 0)) || die "not installed: ${packages[*]}"
}

needs() { command -v "$1" >/dev/null || packages+=("$2"); }

# The example is built by itself: its build also links what the tests need, which the gateway must not carry.
build() {
    local v target=${CARGO_TARGET_DIR:-$root/target}/dist
    doorward=${DOORWARD:-} bare=${BARE:-}
    for v in "$@"; do
        case ${v%%_*} in
            nginx | haproxy | apache | other) ;;
            bare)
                [[ -z $bare ]] || continue
                (cd "$root" && cargo build --profile dist --no-default-features --example bare >&2)
                bare=$target/examples/bare
                ;;
            *)
                [[ -z $doorward ]] || continue
                (cd "$root" && cargo build --profile dist --no-default-features >&2)
                doorward=$target/doorward
                ;;
        esac
    done
}

# One nginx with one worker is the app. A body that is sent to it is read before it answers, with the number of bytes: `return`
# alone would answer first. So the body is read for a mirror, and what serves files has nothing for it.
start_upstream() {
    upstream=http://127.0.0.1:${UPSTREAM:-$(free_port)}
    nginx_conf upstream 1 >"$work/upstream.conf" <<EOF
server {
    listen ${upstream#http://};
    location / { default_type text/plain; return 200 "hello from the app\n"; }
    location /down/ { root $work; sendfile on; }
    location /up {
        client_max_body_size 0;
        client_body_buffer_size 16m;
        mirror /mirror;
        error_page 404 405 =200 @read;
    }
    location = /mirror { internal; return 204; }
    location @read { default_type text/plain; return 200 "\$request_length\n"; }
}
EOF
    spawn upstream "$nginx" -p "$work" -c "$work/upstream.conf"
    await "$upstream/" upstream 200
}

# An OpenID provider that lets everybody in. The access token that it gives is what the other variants are sent.
start_provider() {
    provider=http://127.0.0.1:${PROVIDER:-$(free_port)}
    spawn provider python3 "$root/bench/provider.py" "$provider" "$work"
    await "$provider/jwks" provider 200
    token=$(<"$work/RS256.token")
}

start_redis() {
    [[ -z $redis ]] || return 0
    redis=$(free_port)
    spawn redis redis-server --port "$redis" --save "" --dir "$work"
}

certificate() {
    [[ ! -e $work/tls.pem ]] || return 0
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=127.0.0.1 \
        -keyout "$work/tls.key" -out "$work/tls.pem" 2>/dev/null
}

# sign_in <variant> <cookie>: as a browser does; the session's cookie is kept for wrk.
sign_in() {
    local jar=$work/$1.jar status
    rm -f "$jar"
    status=$(curl -s -m 10 -L -b "$jar" -c "$jar" -o /dev/null -w '%{http_code}' "${url[$1]}/") || true
    cookie[$1]=$(awk -v name="$2" '$6 == name { print $6 "=" $7 }' "$jar")
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
    sed 's/keepalive [0-9]*;/& keepalive_requests 100000000;/'
    echo "}"
}

spawn() { # spawn <name> <command...>
    local name=$1
    shift
    "$@" >"$work/$name.log" 2>&1 &
    pid[$name]=$!
    started+=("$!")
}

stop() {
    [[ $1 != other ]] || return 0 # not ours
    kill "${pid[$1]}" 2>/dev/null || true
    wait "${pid[$1]}" 2>/dev/null || true
}

# await <url> <name> <status>: until it answers so.
await() {
    local try options ask
    header_options "$2"
    ask=(curl -s -k -m 5 "${options[@]}")
    for ((try = 0; try < tries; try++)); do
        kill -0 "${pid[$2]}" 2>/dev/null || die "$2 ended:"$'\n'"$(tail -20 "$work/$2.log")"
        [[ $("${ask[@]}" -o /dev/null -w '%{http_code}' "$1") != "$3" ]] || return 0
        sleep 0.1
    done
    "${ask[@]}" -i "$1" >&2 || true
    die "$2: no $3 from $1:"$'\n'"$(tail -20 "$work/$2.log")"
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

die() {
    echo "bench: $*" >&2
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
