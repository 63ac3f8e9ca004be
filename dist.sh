#!/usr/bin/env bash
# What ships, in dist/: a .deb, a .tar.gz, an SBOM (CycloneDX) and SHA256SUMS. The same source gives the same bytes.
#
#   ./dist.sh
#
# BINARY: a binary that is packed in place of one built here. DIST: another folder than dist. LEVEL: of compression.
# VERSION: another than that of Cargo.toml. SBOM: a file in place of one made here.
set -euo pipefail
cd "$(dirname "$0")"

export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y Cargo.toml)}
export LC_ALL=C TZ=UTC
umask 022
level=${LEVEL:-9}

main() {
    local version arch binary dist=${DIST:-dist}
    version=${VERSION:-$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)}
    arch=$(dpkg --print-architecture)
    binary=${BINARY:-$(build)}
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    rm -rf "$dist"
    mkdir -p "$dist"
    # The linker derives the build id from the debug information, too, which is stripped and knows the build's folder.
    strip --remove-section=.note.gnu.build-id -o "$work/doorward" "$binary"
    tarball "$version" "$arch" "$dist"
    deb "$version" "$arch" "$dist"
    sbom "$dist/doorward-$version.cdx.json"
    (cd "$dist" && sha256sum -- *.deb *.tar.gz *.cdx.json >SHA256SUMS)
    (cd "$dist" && sha256sum -c SHA256SUMS)
}

# Paths of this machine would make the bytes differ from machine to machine.
build() {
    local target=${CARGO_TARGET_DIR:-$PWD/target} registry=${CARGO_HOME:-$HOME/.cargo}
    RUSTFLAGS="--remap-path-prefix=$PWD=/doorward --remap-path-prefix=$registry=/cargo" \
        cargo build --profile dist --no-default-features --locked >&2
    echo "$target/dist/doorward"
}

# Everything that is linked into the binary. The tool writes into the source's folder, and the folder's path into the file.
sbom() {
    if [[ -n ${SBOM:-} ]]; then
        cp "$SBOM" "$1"
        return
    fi
    local tools=${CARGO_TARGET_DIR:-$PWD/target}/tools
    [[ -x $tools/bin/cargo-cyclonedx ]] || cargo install -q cargo-cyclonedx@0.5.9 --locked --root "$tools" >&2
    PATH=$tools/bin:$PATH cargo cyclonedx -q --format json --spec-version 1.5 --no-default-features --no-build-deps \
        --target "$(rustc -vV | sed -n 's/^host: //p')" --override-filename sbom
    sed "s,$PWD,/doorward,g" sbom.json >"$1"
    rm sbom.json
}

tarball() {
    local name=doorward-$1-linux-$2
    mkdir -p "$work/$name"
    cp "$work/doorward" LICENSE README.md CHANGELOG.md "$work/$name/"
    cp -r docs deploy "$work/$name/"
    generated "$work/$name"
    tar -C "$work" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -cf - "$name" |
        gzip -n "-$level" >"$3/$name.tar.gz"
}

# The manual page and the completions, by the binary itself.
generated() {
    mkdir -p "$1/completions"
    "$work/doorward" man >"$1/doorward.1"
    "$work/doorward" completions bash >"$1/completions/doorward"
    "$work/doorward" completions zsh >"$1/completions/_doorward"
    "$work/doorward" completions fish >"$1/completions/doorward.fish"
}

deb() {
    local root=$work/deb from=$work/generated
    generated "$from"
    install -D -m 0755 "$work/doorward" "$root/usr/bin/doorward"
    install -D -m 0644 deploy/debian/doorward.service "$root/lib/systemd/system/doorward.service"
    install -D -m 0640 deploy/debian/config.yaml "$root/etc/doorward/config.yaml"
    install -d -m 0700 "$root/etc/doorward/credentials"
    install -D -m 0644 "$from/completions/doorward" "$root/usr/share/bash-completion/completions/doorward"
    install -D -m 0644 "$from/completions/_doorward" "$root/usr/share/zsh/vendor-completions/_doorward"
    install -D -m 0644 "$from/completions/doorward.fish" "$root/usr/share/fish/vendor_completions.d/doorward.fish"
    install -D -m 0644 LICENSE "$root/usr/share/doc/doorward/copyright"
    install -m 0644 README.md CHANGELOG.md docs/*.md "$root/usr/share/doc/doorward/"
    install -d "$root/usr/share/man/man1"
    gzip -9n <"$from/doorward.1" >"$root/usr/share/man/man1/doorward.1.gz"
    install -d "$root/DEBIAN"
    install -m 0755 deploy/debian/{postinst,prerm,postrm} "$root/DEBIAN/"
    echo /etc/doorward/config.yaml >"$root/DEBIAN/conffiles"
    cat >"$root/DEBIAN/control" <<CONTROL
Package: doorward
Version: $1
Architecture: $2
Maintainer: The Doorward authors <doorward@localhost>
Depends: libc6 (>= 2.36), ca-certificates, passwd
Section: net
Priority: optional
Installed-Size: $(du -sk --apparent-size "$root/usr" | cut -f1)
Description: authenticating reverse proxy
 OpenID Connect and bearer tokens in front of web apps.
CONTROL
    find "$root" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
    dpkg-deb --root-owner-group -Zgzip "-z$level" --build "$root" "$3/doorward_$1_$2.deb" >&2
}

main
