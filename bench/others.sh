# shellcheck shell=bash disable=SC2154,SC2034 # sourced by run.sh
# Other gateways that do the same. Neither haproxy nor Apache keeps a verified token: each request's is verified, as by
# bearer_rs256.

others=(nginx haproxy apache_bearer bearer_rs256 bearer_hit apache_session session_memory ${OTHER:+other})

start_haproxy() {
    url[haproxy]=http://127.0.0.1:$(free_port)
    public_key
    cat >"$work/haproxy.conf" <<CONF
global
    nbthread $workers
    maxconn 8192
defaults
    mode http
    timeout connect 5s
    timeout client 75s
    timeout server 75s
frontend gate
    bind ${url[haproxy]#http://}
    http-request set-var(txn.bearer) http_auth_bearer
    http-request set-var(txn.alg) var(txn.bearer),jwt_header_query('$.alg')
    http-request set-var(txn.iss) var(txn.bearer),jwt_payload_query('$.iss')
    http-request set-var(txn.aud) var(txn.bearer),jwt_payload_query('$.aud')
    http-request set-var(txn.exp) var(txn.bearer),jwt_payload_query('$.exp','int')
    http-request set-var(txn.now) date()
    http-request deny deny_status 401 unless { var(txn.alg) -m str RS256 }
    http-request deny deny_status 401 unless { var(txn.iss) -m str $provider }
    http-request deny deny_status 401 unless { var(txn.aud) -m str bench }
    http-request deny deny_status 401 unless { var(txn.exp),sub(txn.now) -m int gt 0 }
    http-request deny deny_status 401 unless { var(txn.bearer),jwt_verify(txn.alg,"$work/RS256.public") 1 }
    http-request set-header X-Forwarded-User %[var(txn.bearer),jwt_payload_query('$.sub')]
    http-request set-header X-Forwarded-Email %[var(txn.bearer),jwt_payload_query('$.email')]
    default_backend app
backend app
    server app ${upstream#http://}
CONF
    spawn haproxy haproxy -db -f "$work/haproxy.conf"
}

public_key() { openssl pkey -in "$work/RS256.pem" -pubout -out "$work/RS256.public"; }

start_apache_bearer() {
    public_key
    start_apache apache_bearer oauth20 "Require claim iss:$provider"$'\n'"Require claim aud:bench" <<CONF
OIDCOAuthVerifyCertFiles RS256#$work/RS256.public
OIDCOAuthRemoteUserClaim sub
CONF
}

start_apache_session() {
    local port
    port=$(free_port)
    start_apache apache_session openid-connect "Require valid-user" "$port" <<CONF
OIDCProviderMetadataURL $provider/.well-known/openid-configuration
OIDCClientID bench
OIDCClientSecret bench-client-secret-of-some-length
OIDCRedirectURI http://127.0.0.1:$port/oauth2/callback
OIDCCryptoPassphrase bench-passphrase-of-some-length
CONF
    await "${url[apache_session]}/" apache_session 302
    sign_in apache_session mod_auth_openidc_session
}

# start_apache <variant> <AuthType> <what is required> [port], the module's lines on stdin
start_apache() {
    local module port=${4:-$(free_port)}
    url[$1]=http://127.0.0.1:$port
    {
        for module in mpm_event authn_core authz_core authz_user proxy proxy_http auth_openidc; do
            echo "LoadModule ${module}_module $modules/mod_$module.so"
        done
        ((EUID != 0)) || printf 'User www-data\nGroup www-data\n'
        cat
        cat <<CONF
ServerRoot $work
ServerName 127.0.0.1
DefaultRuntimeDir $work
PidFile $work/$1.pid
Listen 127.0.0.1:$port
ErrorLog /dev/stderr
LogLevel error
StartServers $workers
ServerLimit $workers
ThreadsPerChild 64
MaxRequestWorkers $((workers * 64))
MaxSpareThreads $((workers * 64))
MaxKeepAliveRequests 0
KeepAliveTimeout 75
ProxyPass / $upstream/
<Location />
AuthType $2
<RequireAll>
$3
</RequireAll>
</Location>
CONF
    } >"$work/$1.conf"
    spawn "$1" apache2 -D FOREGROUND -f "$work/$1.conf"
}

# Any other, which the caller has started.
start_other() {
    [[ -n ${OTHER:-} ]] || die "OTHER names no gateway"
    url[other]=${OTHER%/} pid[other]=${OTHER_PID:-0}
}
