# shellcheck shell=bash disable=SC2154,SC2034 # sourced by run.sh
# Variants by what passes: many tokens, logged requests, HTTP/2, bodies, WebSocket messages. A name is the server and the
# traffic: nginx_h2_32, bearer_down_10m.

logged=(nginx_logged public_logged bearer_logged)
http2=({nginx,public,bearer}_h2_1 {nginx,public,bearer}_h2_32)
bodies=()
for body in {down,up}_{1k,100k,10m}; do
    bodies+=({nginx,bare,public,bearer}_"$body")
done
websocket=({nginx,bare,public,bearer}_websocket)
echo_port= # where one was started

# start_traffic <variant>: the server that the name begins with.
start_traffic() {
    local traffic=${1#*_}
    case $traffic in
        logged) level[$1]=info ;;
        down_*) body_down "$1" "${traffic#*_}" ;;
        up_*) body_up "$1" "${traffic#*_}" ;;
        websocket)
            start_echo
            local upstream=http://127.0.0.1:$echo_port
            ;;
    esac
    case ${1%%_*} in
        nginx) start_nginx_with "$1" "$traffic" ;;
        bare) start_bare_at "$1" ;;
        public) start_doorward_with "$1" "$traffic" public ;;
        bearer) start_doorward_with "$1" "$traffic" '{accept: [bearer]}' ;;
    esac
}

# To each what it needs to do the same as Doorward, which keeps no body: nginx must neither wait for the whole of one nor
# write it to a file, and reads as much at once: with its own buffers a large body costs it two to three times as much.
start_nginx_with() {
    local streamed="client_max_body_size 0; client_body_buffer_size 64k; proxy_request_buffering off;
        proxy_max_temp_file_size 0; proxy_buffer_size 64k; proxy_buffers 8 64k; proxy_busy_buffers_size 128k;"
    case $2 in
        logged) start_nginx_at http "$1" "" "access_log $work/$1.access;" ;;
        h2_*) app_connections=256 start_nginx_with_tls "$1" http2 ;;
        websocket) start_nginx_at http "$1" "" "proxy_set_header Upgrade \$http_upgrade;" upgrade ;;
        *) start_nginx_at http "$1" "" "$streamed" ;;
    esac
}

start_doorward_with() {
    case $2 in
        h2_*) start_tls "$1" "$3" ;;
        *) start_doorward "$1" "$3" '{backend: memory}' ;;
    esac
}

body_down() {
    path[$1]=/down/$2
    mkdir -p "$work/down"
    [[ -e $work/down/$2 ]] || head -c "${2^^}" /dev/urandom >"$work/down/$2"
}

body_up() {
    path[$1]=/up
    script[$1]=$work/$2.lua
    echo "wrk.method = 'POST' wrk.body = string.rep('u', $(bytes "$2"))" >"${script[$1]}"
}

bytes() { numfmt --from=iec "${1^^}"; }

# Whether the whole of a body passes: the app's file comes, or the app says how much has come.
body_passes() {
    local options got size=${1##*_}
    header_options "$1"
    if [[ $1 == *_down_* ]]; then
        curl -s -f -m 20 "${options[@]}" "${url[$1]}${path[$1]}" | cmp -s - "$work/down/$size" ||
            die "$1: not the app's file"
    else
        got=$(head -c "${size^^}" /dev/zero |
            curl -s -f -m 20 "${options[@]}" -H Expect: --data-binary @- "${url[$1]}${path[$1]}") || true
        ((${got:-0} > $(bytes "$size"))) || die "$1: of $size the app got ${got:-none}"
    fi
}

start_echo() {
    [[ -z $echo_port ]] || return 0
    echo_port=$(free_port)
    spawn echo python3 "$root/bench/websocket.py" echo "127.0.0.1:$echo_port"
    await "http://127.0.0.1:$echo_port/" echo 200
}

# Each request has another token than the 19,999 before it, and the cache can hold 100: so every token is verified and kept,
# and costs another its place. Tokens that are used once only cannot be made fast enough. The cache prefers what is asked for
# often to what is new, so its 100 may be hits: at most one request in 200. `misses` checks it.
start_bearer_many() {
    start_doorward bearer_many '{accept: [bearer]}' '{backend: memory}' 'caches: {verified_tokens: {max_entries: 100}}'
    python3 "$root/bench/tokens.py" "$provider" "$work" 20000 >"$work/many.tokens"
    script[bearer_many]=$work/many.lua
    cat >"$work/many.lua" <<LUA
local threads = 0
function setup(thread)
    thread:set("id", threads)
    threads = threads + 1
end
function init()
    requests, at = {}, 0
    local line = 0
    for token in io.lines("$work/many.tokens") do
        line = line + 1
        if line % $threads == id then
            wrk.headers["Authorization"] = "Bearer " .. token
            requests[#requests + 1] = wrk.format()
        end
    end
end
function request()
    at = at % #requests + 1
    return requests[at]
end
LUA
}
