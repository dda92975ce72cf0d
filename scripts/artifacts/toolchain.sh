#!/usr/bin/env bash
# toolchain.sh OUT_DIR → OUT/toolchain-<key>/ and OUT/toolchain.json
# What image builds run: buildah and e2fsprogs of Debian 13, as a root of their own, whatever this host is. Only its
# /usr is ever used, read-only, inside the builder's jail. Made again only when what it is made from has changed.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/debian.sh"

[ $# = 1 ] || fail "usage: toolchain.sh OUT_DIR"
mkdir -p "$1"
out=$(readlink -f "$1")
suite=trixie
packages=buildah,netavark,ca-certificates,e2fsprogs # buildah does not start without netavark, even for chroot builds

mirrors
key=$(key12 "$(cat "$0")" "$(dpkg --print-architecture)" "$(sources $suite)")
up_to_date "$out/toolchain.json" "$key" && exit 0

need mmdebstrap mmdebstrap
[ "$(id -u)" = 0 ] || fail "making the toolchain needs root"
root=$out/toolchain-$key
temporary=$out/.toolchain-$key.$$
trap 'rm -rf --one-file-system "$temporary"' EXIT
echo "making the build toolchain (Debian 13): about 20 seconds and 300 MB" >&2
sources $suite | mmdebstrap --quiet --mode=root --variant=minbase --format=directory --include=$packages \
  --keyring="$KEYRING" --aptopt='APT::Install-Recommends "false"' \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/info/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
  --dpkgopt='path-include=/usr/share/doc/*/copyright' \
  $suite "$temporary" -
version=$(sed -n '/^Package: buildah$/,/^$/s/^Version: //p' "$temporary/var/lib/dpkg/status")
[ -n "$version" ] || fail "the toolchain has no buildah"
put_folder "$temporary" "$root"
write_manifest "$out/toolchain.json" "{\"schema\":1,\"path\":\"$(basename "$root")\",\"buildah\":\"${version%%[+~-]*}\",\"key\":\"$key\"}"
find "$out" -mindepth 1 -maxdepth 1 -name 'toolchain-*' ! -path "$root" -mmin +1440 -exec rm -rf --one-file-system {} +
