# shellcheck shell=bash disable=SC2154,SC2034 # sourced by run.sh and instructions.sh
# What is measured: one function each, which starts the variant and says where it is, and with which credential. What a
# variant's name begins with is the server.

all=(nginx bare public bearer_hit session_memory session_file session_redis session_redis_uncached api_key auth
    refused unauthorized login bearer_rs256 nginx_tls public_tls bearer_tls)
tls=(nginx_tls public_tls bearer_tls)
algorithms=(nginx bearer_hit bearer_rs256 bearer_ps256 bearer_es256 bearer_eddsa bearer_many)

start_nginx() { start_nginx_at http nginx; }
start_nginx_tls() { start_nginx_with_tls nginx_tls; }

# start_nginx_with_tls <variant> [a word of the listener]
start_nginx_with_tls() {
    certificate
    start_nginx_at https "$1" " ssl ${2:-}; ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate $work/tls.pem; ssl_certificate_key $work/tls.key"
}

# start_nginx_at <scheme> <variant> [what follows the address] [further lines of the location] [the app's Connection header]
start_nginx_at() {
    url[$2]=$1://127.0.0.1:$(free_port)
    nginx_conf "$2" "$workers" >"$work/$2.conf" <<CONF
upstream app { server ${upstream#http://}; keepalive $app_connections; }
server {
    listen ${url[$2]#*://}${3:-};
    location / { proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection "${5:-}"; ${4:-} }
}
CONF
    spawn "$2" "$nginx" -p "$work" -c "$work/$2.conf"
}

start_bare() { start_bare_at bare; }

start_bare_at() {
    url[$1]=http://127.0.0.1:$(free_port)
    spawn "$1" "${under[@]}" "$bare" --listen "${url[$1]#http://}" --upstream "${upstream#http://}" --shards "$workers"
}

start_public() { start_doorward public public '{backend: memory}'; }
start_bearer_hit() { start_doorward bearer_hit '{accept: [bearer]}' '{backend: memory}'; }

start_bearer_rs256() { start_verifying bearer_rs256 RS256; }
start_bearer_ps256() { start_verifying bearer_ps256 PS256; }
start_bearer_es256() { start_verifying bearer_es256 ES256; }
start_bearer_eddsa() { start_verifying bearer_eddsa EdDSA; }

# Every token is verified, each time.
start_verifying() {
    start_doorward "$1" '{accept: [bearer]}' '{backend: memory}' 'caches: {verified_tokens: {enabled: false}}'
    credential[$1]="Authorization: Bearer $(<"$work/$2.token")"
}

# A session that the process holds a copy of; when the copy's time is over, the store is asked again.
start_session_memory() { start_session session_memory '{backend: memory}'; }
start_session_file() { start_session session_file '{backend: file, path: session_file.db}'; }

start_session_redis() {
    start_redis
    start_session session_redis "{backend: redis, redis: {urls: [\"redis://127.0.0.1:$redis/0\"]}}"
}

# The store is asked at each request.
start_session_redis_uncached() {
    start_redis
    start_session session_redis_uncached "{backend: redis, redis: {urls: [\"redis://127.0.0.1:$redis/1\"]}}" \
        'caches: {sessions: {enabled: false}}'
}

start_api_key() {
    start_doorward api_key '{accept: [api_key]}' '{backend: memory}'
    local made
    made=$(curl -s -H "Authorization: Bearer $admin_token" -d '{"name": "bench", "user": "bench"}' \
        "http://${admin[api_key]}/api/v1/api-keys")
    credential[api_key]="X-API-Key: $(sed 's/.*"key":"\([^"]*\)".*/\1/' <<<"$made")"
}

# What nginx asks with auth_request.
start_auth() {
    start_doorward auth '{accept: [bearer]}' '{backend: memory}' 'client_ip: {trusted_proxies: [127.0.0.1/32]}'
    answer[auth]=202
    credential[auth]="Authorization: Bearer $token
X-Forwarded-Method: GET
X-Forwarded-Host: ${url[auth]#http://}
X-Forwarded-Uri: /"
    path[auth]=/oauth2/auth
}

# A token that was refused before. The provider's keys are fetched for a forged signature at most once in 30 s, and in between
# such a refusal is not kept: with the cache's own 10 s, two thirds of the requests would be verified.
start_refused() {
    start_doorward refused '{accept: [bearer]}' '{backend: memory}' 'limits: {unknown_tokens: {enabled: false}}
caches: {unknown_tokens: {ttl: 60s}}'
    answer[refused]=401
    credential[refused]="Authorization: Bearer ${token%????}AAAA"
}

start_unauthorized() {
    start_doorward unauthorized '{accept: [session, bearer]}' '{backend: memory}'
    answer[unauthorized]=401
    credential[unauthorized]="Accept: application/json"
}

start_login() {
    start_doorward login '{accept: [session]}' '{backend: memory}'
    answer[login]=302
    credential[login]="Accept: text/html"
}

start_public_tls() { start_tls public_tls public; }
start_bearer_tls() { start_tls bearer_tls '{accept: [bearer]}'; }

start_tls() {
    certificate
    start_doorward "$1" "$2" '{backend: memory}' '' ", tls: {certificate: tls.pem, private_key: tls.key}"
}

start_session() {
    start_doorward "$1" '{accept: [session, bearer]}' "$2" "${3:-}"
    sign_in "$1" doorward
}

# start_doorward <variant> <the route's auth> <store> [further lines] [further keys of the listener]
start_doorward() {
    local port scheme=http config=$work/$1.yaml
    [[ -z ${5:-} ]] || scheme=https
    port=$(free_port) admin[$1]=127.0.0.1:$(free_port)
    url[$1]=$scheme://127.0.0.1:$port
    cat >"$config" <<CONF
listen: [{address: "127.0.0.1:$port"${5:-}}]
admin: {address: "${admin[$1]}", token: $admin_token}
workers: $workers
logging: {level: ${level[$1]:-warn}}
providers:
  bench:
    issuer: $provider
    client_id: bench
    client_secret: bench-client-secret-of-some-length
    audiences: [bench]
routes:
  - {name: app, from: "${url[$1]}/", to: "$upstream", auth: $2}
store: $3
${4:-}
CONF
    spawn "$1" "${under[@]}" "$doorward" run -c "$config"
    await "http://${admin[$1]}/readyz" "$1" 200
}
