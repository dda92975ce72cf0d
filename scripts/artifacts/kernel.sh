#!/usr/bin/env bash
# The guest's kernel: Debian's cloud kernel of the 6.12 series as an ELF file, and the few modules that a guest needs.
#
# usage: kernel.sh OUT_DIR [SUITE]      SUITE: trixie (default) or bookworm-backports
# makes: OUT_DIR/kernel-<hash>/{vmlinux,modules/}, OUT_DIR/kernel.json
#
# The package comes through an apt root of our own, checked against Debian's archive keys: this works on every
# distribution that has apt and debian-archive-keyring, and the host's package sources stay as they are.
# A kernel that is there already is kept, also when Debian has a newer one; delete kernel.json to get that.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

SERIES=6.12
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg
[ -f "$KEYRING" ] || KEYRING=${KEYRING%.gpg}.pgp # its name from Debian 13 on

[ $# -ge 1 ] && [ $# -le 2 ] || die "usage: kernel.sh OUT_DIR [SUITE]"
suite=${2:-trixie}
mkdir -p -- "$1"
out=$(cd "$1" && pwd)
[ "$(uname -m)" = x86_64 ] || die "there is a guest kernel for x86_64 only, this is $(uname -m)"

inputs=$(inputs_hash "$here"/{kernel.sh,lib.sh,extract-vmlinux.ts,select-modules.ts} -- "$suite")
if up_to_date "$out/kernel.json" "$inputs"; then
  say "kernel $(json_text "$out/kernel.json" version) is up to date"
  exit 0
fi
need apt-get apt-cache dpkg-deb node xz lz4 sha256sum
[ -f "$KEYRING" ] || die "Debian's archive keys are missing: install debian-archive-keyring"

work=$(mktemp -d "$out/.kernel.XXXXXX")
trap 'rm -rf -- "$work"' EXIT

# --- the private apt root -------------------------------------------------------------------------------------------
# On Debian the host's own mirror is taken, since it is the one that can be reached.
mirror() {
  local found=""
  if [ "$(. /etc/os-release && echo "${ID:-}")" = debian ]; then
    found=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
      grep -E -m 1 "/$1/?\$" || true)
  fi
  echo "${found:-http://deb.debian.org/$1}"
}
apt_root=$work/apt
mkdir -p "$apt_root"/etc/apt/{apt.conf.d,preferences.d,trusted.gpg.d} \
  "$apt_root"/var/{lib/apt/lists/partial,cache/apt/archives/partial}
: >"$apt_root/status"
case $suite in
  *-backports) security=${suite%-backports}-security ;;
  *) security=$suite-security ;;
esac
cat >"$apt_root/etc/apt/sources.list" <<EOF
deb [signed-by=$KEYRING arch=amd64] $(mirror debian) $suite main
deb [signed-by=$KEYRING arch=amd64] $(mirror debian-security) $security main
EOF
# Proxies and time-outs as the host has them; its hooks and other folders stay out. Only a file named by APT_CONFIG is
# read before the folders that it is to replace.
{
  apt-config dump --no-empty Acquire 2>/dev/null || true
  cat <<EOF
Dir "$apt_root";
Dir::State::status "$apt_root/status";
Dir::Etc::netrc "/etc/apt/auth.conf";
Dir::Etc::netrcparts "/etc/apt/auth.conf.d";
APT::Architecture "amd64";
APT::Architectures { "amd64"; };
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::IndexTargets::deb::CNF::DefaultEnabled "false";
EOF
} >"$apt_root/apt.conf"
export APT_CONFIG=$apt_root/apt.conf

say "reading the package lists of $suite"
apt-get -q update >"$work/apt.log" 2>&1 || die "apt-get update failed: $(tail -n 5 "$work/apt.log")"
package=$(apt-cache pkgnames "linux-image-$SERIES." | grep -E '^linux-image-[0-9.]+\+[^-]*-cloud-amd64$' |
  sort -V | tail -n 1) || true
[ -n "$package" ] || die "no cloud kernel $SERIES in $suite; its lists: $(tail -n 5 "$work/apt.log")"
version=${package#linux-image-}

say "downloading $package"
(cd "$work" && apt-get -q download "$package" >"$work/apt.log" 2>&1) ||
  die "cannot download $package: $(tail -n 5 "$work/apt.log")"
dpkg-deb -x "$work"/linux-image-*.deb "$work/package"

# --- what a guest needs of it ---------------------------------------------------------------------------------------
mkdir "$work/kernel"
node "$here/extract-vmlinux.ts" "$work/package/boot/vmlinuz-$version" "$work/kernel/vmlinux"
tree=$(find "$work/package" -type d -path "*/lib/modules/$version" | head -n 1)
node "$here/select-modules.ts" "$tree" "$work/kernel/modules"
chmod -R a+rX "$work/kernel"
sync -- "$work/kernel/vmlinux"

sha256=$(file_hash "$work/kernel/vmlinux")
# Named by all of its content, so that another choice of modules is another folder.
name=kernel-$(cd "$work/kernel" && find . -type f | LC_ALL=C sort | xargs sha256sum | sha256sum | cut -c1-12)
[ ! -e "$out/$name" ] || mv -- "$out/$name" "$work/replaced"
mv -- "$work/kernel" "$out/$name"
write_atomic "$out/kernel.json" <<EOF
{
  "schema": 1,
  "version": "$version",
  "path": "$name/vmlinux",
  "sha256": "$sha256",
  "modules": "$name/modules",
  "suite": "$suite",
  "inputs": "$inputs"
}
EOF
say "kernel $version: $out/$name"
