# What the artifact scripts share. Sourced, not run.

# fail MESSAGE…
fail() {
  echo "$(basename "$0"): $*" >&2
  exit 1
}

# need COMMAND PACKAGE: the command is there, or the message says what to install.
need() { command -v "$1" >/dev/null || fail "$1 is missing: install the package $2"; }

# mirrors: sets MIRROR and SECURITY to this host's own Debian mirrors, or to the public ones where it is not Debian.
mirrors() {
  local uris
  uris=$(apt-get indextargets --format '$(REPO_URI)' 2>/dev/null | sort -u || true)
  MIRROR=${TORPOR_DEBIAN_MIRROR:-$(grep -m1 -E '/debian/?$' <<<"$uris" || echo http://deb.debian.org/debian)}
  SECURITY=${TORPOR_DEBIAN_SECURITY_MIRROR:-$(grep -m1 -E '/debian-security/?$' <<<"$uris" || echo http://deb.debian.org/debian-security)}
  KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg
  [ -e "$KEYRING" ] || fail "$KEYRING is missing: install the package debian-archive-keyring"
}

# sources SUITE: the lines of its sources.list.
sources() {
  printf 'deb %s %s main\n' "${MIRROR%/}" "$1" "${MIRROR%/}" "$1-updates" "${SECURITY%/}" "$1-security"
}

# key12 TEXT…: names an artifact by what it is made from.
key12() { printf '%s\n' "$@" | sha256sum | cut -c1-12; }

# up_to_date JSON KEY: the artifact that the manifest describes (its path is relative to the manifest) was made from
# KEY and is there.
up_to_date() {
  local json=$1 path
  [ -s "$json" ] && grep -qF "\"key\":\"$2\"" "$json" || return 1
  path=$(sed -n 's/.*"path":"\([^"]*\)".*/\1/p' "$json")
  [ -n "$path" ] && [ -e "$(dirname "$json")/$path" ]
}

# write_manifest FILE TEXT: whole or not at all.
write_manifest() {
  printf '%s\n' "$2" >"$1.tmp.$$"
  mv -f "$1.tmp.$$" "$1"
}

# put_folder FROM TO: the finished folder gets its name. Names follow from contents, so one that is there already, from
# another run, is as good, and may be in use.
put_folder() { [ -d "$2" ] || mv -T "$1" "$2" 2>/dev/null || [ -d "$2" ] || fail "cannot make $2"; }
