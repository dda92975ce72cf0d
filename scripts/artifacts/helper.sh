#!/usr/bin/env bash
# helper.sh OUT_DIR → OUT/helper-<sha>/torpor-helper and OUT/helper.json
# The native helper, static. Built again only when its sources or the compiler have changed.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
. "$here/debian.sh"

[ $# = 1 ] || fail "usage: helper.sh OUT_DIR"
mkdir -p "$1"
out=$(readlink -f "$1")
source=$(readlink -f "$here/../../helper")
need go golang-go

cd "$source"
files=$(find . -type f \( -name '*.go' -o -name go.mod -o -name go.sum \) ! -name '*_test.go' | LC_ALL=C sort)
key=$(key12 "$(go env GOVERSION GOARCH)" "$(sha256sum $files)")
up_to_date "$out/helper.json" "$key" && exit 0

temporary=$out/.helper.$$
trap 'rm -rf "$temporary"' EXIT
mkdir "$temporary"
CGO_ENABLED=0 GOFLAGS=-mod=readonly go build -trimpath -buildvcs=false -ldflags='-s -w -buildid=' -o "$temporary/torpor-helper" .
sha256=$(sha256sum "$temporary/torpor-helper" | cut -d' ' -f1)
version=$("$temporary/torpor-helper" version)
folder=$out/helper-${sha256:0:12}
chmod 755 "$temporary"
put_folder "$temporary" "$folder"
write_manifest "$out/helper.json" "{\"schema\":1,\"version\":\"$version\",\"path\":\"$(basename "$folder")/torpor-helper\",\"sha256\":\"$sha256\",\"key\":\"$key\"}"
find "$out" -mindepth 1 -maxdepth 1 -name 'helper-*' ! -path "$folder" -mmin +1440 -exec rm -rf {} +
