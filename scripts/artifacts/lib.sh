# Shared by the scripts that make artifacts. Source it, after `set -euo pipefail`.
# shellcheck shell=bash

say() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; }
die() {
  say "$*"
  exit 1
}

need() {
  local tool
  for tool in "$@"; do
    command -v "$tool" >/dev/null || die "$tool is missing; scripts/setup.sh installs what is needed"
  done
}

# The hash of files (base names and contents) and of further words after --: what an artifact was made from.
inputs_hash() {
  local files=()
  while [ $# -gt 0 ] && [ "$1" != "--" ]; do
    files+=("$1")
    shift
  done
  { sha256sum -- "${files[@]}" | sed "s|  .*/|  |" && printf '%s\n' "$@"; } | sha256sum | cut -c1-64
}

# The value of a text member in one of our own JSON files (one member a line).
json_text() { sed -n "s/^ *\"$2\": \"\\(.*\\)\",\\{0,1\\}\$/\\1/p" "$1"; }

# Is the artifact that JSON file $1 describes made from inputs $2, and whole?
up_to_date() {
  local json=$1 inputs=$2
  [ -f "$json" ] && [ "$(json_text "$json" inputs)" = "$inputs" ] || return 1
  local path
  path="$(dirname "$json")/$(json_text "$json" path)"
  [ -f "$path" ] && [ "$(file_hash "$path")" = "$(json_text "$json" sha256)" ]
}

file_hash() { sha256sum -- "$1" | cut -c1-64; }

# Text from stdin into a file that appears whole.
write_atomic() {
  local tmp="$1.tmp.$$"
  cat >"$tmp"
  sync -- "$tmp"
  mv -f -- "$tmp" "$1"
}
