#!/usr/bin/env bash
# clients.sh: boto3 and the AWS CLI for the tests that talk to the server with them, into .torpor/clients of this
# checkout, as packages/server/test/clients/requirements.txt pins them. Run it again at any time: what is there is left.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$(readlink -f "$0")")/common.sh"

REQUIREMENTS=$ROOT/packages/server/test/clients/requirements.txt
CLIENTS=$ROOT/.torpor/clients

[ $# = 0 ] || die "usage: scripts/clients.sh (no arguments; what it does is at its top)"
mkdir -p "$ROOT/.torpor"
exec 9>"$ROOT/.torpor/clients.lock"
flock 9 # two at once would write the same folder
now=$(sha256sum <"$REQUIREMENTS")
[ "$(cat "$CLIENTS/.installed" 2>/dev/null || true)" != "$now" ] || exit 0

step "boto3 and the AWS CLI in .torpor/clients"
command -v python3 >/dev/null || die "there is no python3: scripts/setup.sh installs it"
rm -rf "$CLIENTS"
python3 -m venv "$CLIENTS" || die "python3 cannot make a virtual environment: apt-get install python3-venv"
"$CLIENTS/bin/pip" install --quiet --disable-pip-version-check --no-deps --requirement "$REQUIREMENTS" ||
  die "pip could not install $REQUIREMENTS: this needs PyPI once, or a mirror of it in PIP_INDEX_URL"
echo "$now" >"$CLIENTS/.installed"
