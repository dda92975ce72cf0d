#!/usr/bin/env bash
# quickstart.sh [--keep]: prepares this machine, then builds, runs, suspends and wakes examples/hello, and fails unless
# everything went on from where it was. With --keep the server goes on running.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$(readlink -f "$0")")/common.sh"

case "$*" in
  "" | --keep) ;;
  *) die "usage: scripts/quickstart.sh [--keep]" ;;
esac
"$ROOT/scripts/setup.sh"
use_node || die "there is no Node $NODE_MAJOR after the setup"
if [ "$(id -u)" != 0 ]; then
  step "microvms need root: going on with sudo"
  exec sudo env "PATH=$PATH" node --disable-warning=ExperimentalWarning "$ROOT/scripts/quickstart.ts" "$@"
fi
exec node --disable-warning=ExperimentalWarning "$ROOT/scripts/quickstart.ts" "$@"
