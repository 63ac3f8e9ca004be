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

flask=3.1.3 django=5.2.19 aiohttp=3.14.5 gunicorn=27.0.1 express=5.3.0

main() {
    export PATH=$PATH:/usr/sbin:/usr/local/go/bin
    install_packages
    install_python
    install_node
    if [[ -z ${DOORWARD:-} ]]; then
        (cd "$root" && cargo build --release)
        export DOORWARD=${CARGO_TARGET_DIR:-$root/target}/release/doorward
    fi
    exec python3 "$here/run.py" "$@"
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
    ((${#packages[@]})) || return 0
    local sudo=()
    ((EUID == 0)) || sudo=(sudo)
    "${sudo[@]}" apt-get update -qq >&2
    DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y -qq --no-install-recommends "${packages[@]}" >&2
}

install_python() {
    local wanted="flask==$flask django==$django aiohttp==$aiohttp gunicorn==$gunicorn"
    [[ $(cat "$tools/python.txt" 2>/dev/null) != "$wanted" ]] || return 0
    python3 -m venv "$tools/venv"
    # shellcheck disable=SC2086 # words
    "$tools/venv/bin/pip" install -q --disable-pip-version-check $wanted
    echo "$wanted" >"$tools/python.txt"
}

install_node() {
    [[ $(cat "$tools/express.txt" 2>/dev/null) != "$express" ]] || return 0
    mkdir -p "$tools"
    npm install --silent --no-fund --no-audit --prefix "$tools" "express@$express"
    echo "$express" >"$tools/express.txt"
}

main "$@"
