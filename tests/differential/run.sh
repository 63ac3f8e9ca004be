#!/usr/bin/env bash
# Installs what is missing and runs the suite; the arguments are those of run.py.
#
#   tests/differential/run.sh [--seed N] [--count 5000] [--only nginx,tomcat] [--self-test]
#
# DOORWARD names a binary to test instead of building one. Debian's packages are those that start no service.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
tools=$root/target/differential

python="flask==3.1.3 django==5.2.19 aiohttp==3.14.5 gunicorn==27.0.1 starlette==1.10.0 uvicorn==0.54.0 httptools==0.9.0
    hypercorn==0.18.0 waitress==3.0.2 tornado==6.6.1 twisted==26.10.0 h2==4.4.1"
node="express@5.3.0 fastify@5.12.8 @fastify/static@10.1.11 koa@3.3.0 koa-static@5.0.0 serve-handler@6.1.8"
# Their packages would start a service: they are unpacked only.
unpacked="lighttpd haproxy libopentracing-c-wrapper0 libopentracing1"

main() {
    export PATH=$PATH:/usr/sbin:/usr/local/go/bin
    install_packages
    unpack
    install_python
    install_node
    if [[ -z ${DOORWARD:-} ]]; then
        (cd "$root" && cargo build --release)
        export DOORWARD=${CARGO_TARGET_DIR:-$root/target}/release/doorward
    fi
    exec "$tools/venv/bin/python" "$here/run.py" "$@"
}

install_packages() {
    local packages=()
    command -v nginx >/dev/null || packages+=(nginx-light)
    command -v apache2 >/dev/null || packages+=(apache2-bin)
    command -v caddy >/dev/null || packages+=(caddy)
    command -v node >/dev/null || packages+=(nodejs)
    command -v npm >/dev/null || packages+=(npm)
    command -v go >/dev/null || packages+=(golang-go)
    command -v javac >/dev/null || packages+=(default-jdk-headless)
    command -v python3 >/dev/null || packages+=(python3-minimal)
    python3 -c 'import ensurepip' 2>/dev/null || packages+=(python3-venv)
    [[ -e /usr/share/tomcat10/lib/catalina.jar ]] || packages+=(tomcat10-common)
    [[ -e /usr/share/java/jetty9-server.jar ]] || packages+=(libjetty9-java)
    command -v openssl >/dev/null || packages+=(openssl)
    command -v php >/dev/null || packages+=(php-cli)
    command -v php-cgi >/dev/null || packages+=(php-cgi)
    compgen -G "/usr/lib/apache2/modules/libphp*.so" >/dev/null || packages+=(libapache2-mod-php)
    [[ -e /usr/share/php/Symfony/Component/HttpFoundation ]] || packages+=(php-symfony-http-foundation)
    command -v uwsgi-core >/dev/null || packages+=(uwsgi-core)
    [[ -e /usr/lib/uwsgi/plugins/python3_plugin.so ]] || packages+=(uwsgi-plugin-python3)
    command -v puma >/dev/null || packages+=(puma)
    command -v rackup >/dev/null || packages+=(ruby-rack)
    ruby -e 'require "webrick"' 2>/dev/null || packages+=(ruby-webrick)
    ruby -e 'require "sinatra/base"' 2>/dev/null || packages+=(ruby-sinatra)
    command -v starman >/dev/null || packages+=(starman)
    command -v busybox >/dev/null || packages+=(busybox)
    ((${#packages[@]})) || return 0
    local sudo=()
    ((EUID == 0)) || sudo=(sudo)
    "${sudo[@]}" apt-get update -qq >&2
    DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y -qq --no-install-recommends "${packages[@]}" >&2
}

unpack() {
    [[ $(cat "$tools/unpacked.txt" 2>/dev/null) != "$unpacked" ]] || return 0
    mkdir -p "$tools/debs" "$tools/unpacked"
    # shellcheck disable=SC2086 # words
    (cd "$tools/debs" && apt-get download -qq $unpacked >&2)
    local package
    for package in "$tools"/debs/*.deb; do
        dpkg -x "$package" "$tools/unpacked"
    done
    echo "$unpacked" >"$tools/unpacked.txt"
}

install_python() {
    [[ $(cat "$tools/python.txt" 2>/dev/null) != "$python" ]] || return 0
    python3 -m venv "$tools/venv"
    # shellcheck disable=SC2086 # words
    "$tools/venv/bin/pip" install -q --disable-pip-version-check $python
    echo "$python" >"$tools/python.txt"
}

install_node() {
    [[ $(cat "$tools/node.txt" 2>/dev/null) != "$node" ]] || return 0
    mkdir -p "$tools"
    # shellcheck disable=SC2086 # words
    npm install --silent --no-fund --no-audit --prefix "$tools" $node
    echo "$node" >"$tools/node.txt"
}

main "$@"
