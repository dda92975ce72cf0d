#!/usr/bin/env bash
# base.sh OUT_DIR → OUT/base-<sha>/rootfs.tar and OUT/base-debian-12.json
# The managed base image: what a Dockerfile's FROM gets on a host without a registry. The same package versions give
# the same bytes. Made again only when what it is made from has changed.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/debian.sh"

[ $# = 1 ] || fail "usage: base.sh OUT_DIR"
mkdir -p "$1"
out=$(readlink -f "$1")
suite=bookworm
packages=ca-certificates,python3,python-is-python3
references=(
  public.ecr.aws/lambda/microvms:al2023-minimal
  docker.io/library/debian:{bookworm,bookworm-slim,12,12-slim}
  public.ecr.aws/docker/library/debian:{bookworm,bookworm-slim,12,12-slim}
  docker.io/library/python:{3.11,3.11-slim,3.11-bookworm,3.11-slim-bookworm}
)

mirrors
key=$(key12 "$(cat "$0")" "$(dpkg --print-architecture)" "$(sources $suite)")
json=$out/base-debian-12.json
up_to_date "$json" "$key" && exit 0

need mmdebstrap mmdebstrap
[ "$(id -u)" = 0 ] || fail "making a base image needs root"
temporary=$out/.base.$$
trap 'rm -rf "$temporary"' EXIT
mkdir "$temporary"
echo "making the base image (Debian 12): about 30 seconds and 200 MB" >&2
# One date for all files, so that the same packages give the same bytes. It also makes Python tie its byte code to the
# content of its sources instead of their times.
export SOURCE_DATE_EPOCH=1700000000
sources $suite | mmdebstrap --quiet --mode=root --variant=minbase --format=tar --include=$packages \
  --keyring="$KEYRING" --aptopt='APT::Install-Recommends "false"' \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/info/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
  --dpkgopt='path-include=/usr/share/doc/*/copyright' \
  --customize-hook='rm -f "$1/etc/hostname" "$1/etc/resolv.conf"' \
  --skip=output/dev \
  $suite "$temporary/rootfs.tar" -
sha256=$(sha256sum "$temporary/rootfs.tar" | cut -d' ' -f1)
os=$(tar -xOf "$temporary/rootfs.tar" ./usr/lib/os-release | sed -n 's/^PRETTY_NAME="\(.*\)"$/\1/p')
folder=$out/base-${sha256:0:12}
chmod 755 "$temporary"
put_folder "$temporary" "$folder"
list=$(printf ',"%s"' "${references[@]}")
write_manifest "$json" "{\"schema\":1,\"name\":\"debian-12\",\"os\":\"$os\",\"path\":\"$(basename "$folder")/rootfs.tar\",\"sha256\":\"$sha256\",\"references\":[${list:1}],\"key\":\"$key\"}"
find "$out" -mindepth 1 -maxdepth 1 -name 'base-????????????' ! -path "$folder" -mmin +1440 -exec rm -rf {} +
