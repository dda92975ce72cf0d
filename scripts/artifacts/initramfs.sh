#!/usr/bin/env bash
# The guest's initramfs: torpor-agent as /init, and the kernel's modules.
#
# usage: initramfs.sh OUT_DIR           after kernel.sh OUT_DIR
# makes: OUT_DIR/initramfs-<hash>.img, OUT_DIR/initramfs.json
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"
agent=$(cd "$here/../../agent" && pwd)

[ $# -eq 1 ] || die "usage: initramfs.sh OUT_DIR"
[ -f "$1/kernel.json" ] || die "$1/kernel.json is missing: run kernel.sh $1 first"
out=$(cd "$1" && pwd)
need go node gzip sha256sum

modules=$(json_text "$out/kernel.json" modules)
kernel_version=$(json_text "$out/kernel.json" version)
agent_version=$(sed -n 's/^const version = "\(.*\)"$/\1/p' "$agent/version.go")
[ -n "$agent_version" ] || die "no version in $agent/version.go"

mapfile -t sources < <(find "$agent" -name '*.go' ! -name '*_test.go' -o -name 'go.mod' -o -name 'go.sum' | LC_ALL=C sort)
# The folder of the modules is named by its content.
inputs=$(inputs_hash "$here"/{initramfs.sh,lib.sh,cpio.ts} "${sources[@]}" -- "$modules" "$(go env GOVERSION)")
if up_to_date "$out/initramfs.json" "$inputs"; then
  say "initramfs with agent $agent_version is up to date"
  exit 0
fi

work=$(mktemp -d "$out/.initramfs.XXXXXX")
trap 'rm -rf -- "$work"' EXIT
say "building torpor-agent $agent_version"
mkdir "$work/root"
(cd "$agent" && CGO_ENABLED=0 GOFLAGS="" go build -trimpath -buildvcs=false -ldflags "-s -w -buildid=" -o "$work/root/init" .)
cp -r -- "$out/$modules" "$work/root/modules"

node "$here/cpio.ts" "$work/root" "$work/initramfs.cpio"
gzip -9 -n <"$work/initramfs.cpio" >"$work/initramfs.img"
# QEMU's microvm puts the initramfs at the top of memory, rounded down to a page, and its firmware puts the ACPI tables
# (1 KiB) at the top as well. With whole pages the last page of memory stays free for them; without, an initramfs of an
# unlucky size overwrites the tables and the guest hangs before it prints a line. The kernel skips zeros at the end.
truncate -s %4096 "$work/initramfs.img"
sync -- "$work/initramfs.img"
chmod 0644 "$work/initramfs.img"
sha256=$(file_hash "$work/initramfs.img")
name=initramfs-${sha256:0:12}.img
bytes=$(stat -c %s "$work/initramfs.img")
mv -f -- "$work/initramfs.img" "$out/$name"
write_atomic "$out/initramfs.json" <<EOF
{
  "schema": 1,
  "agentVersion": "$agent_version",
  "path": "$name",
  "sha256": "$sha256",
  "kernelVersion": "$kernel_version",
  "inputs": "$inputs"
}
EOF
say "initramfs: $out/$name, $((bytes / 1024)) KiB"
