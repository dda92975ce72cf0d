#!/usr/bin/env bash
# test.sh: prepares this machine, then runs every check and every test there is; ends with "N passed, N failed".
# What each stage printed stays in .torpor/test.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$(readlink -f "$0")")/common.sh"

[ $# = 0 ] || die "usage: scripts/test.sh (no arguments)"
LOGS=$ROOT/.torpor/test
PASSED=0
FAILED=0
SUMMARY=()

# stage NAME COUNT COMMAND…: runs it and adds up. COUNT gets the stage's name and exit status, and prints
# "passed failed". A stage that failed without a failed test counts as one failure, and so does one that ran nothing.
stage() {
  local name=$1 count=$2 started=$SECONDS status passed failed
  shift 2
  step "$name"
  set +e
  "$@" 2>&1 | tee "$LOGS/$name.log"
  status=${PIPESTATUS[0]}
  set -e
  read -r passed failed <<<"$("$count" "$name" "$status")"
  if [ "$failed" = 0 ] && { [ "$status" != 0 ] || [ "$passed" = 0 ]; }; then
    say "$name ended with status $status after $passed tests"
    failed=1
  fi
  PASSED=$((PASSED + passed))
  FAILED=$((FAILED + failed))
  SUMMARY+=("$(printf '%-12s %5d passed %5d failed %6d s' "$name" "$passed" "$failed" $((SECONDS - started)))")
}

# A check without tests of its own counts as one.
count_check() { if [ "$2" = 0 ]; then echo "1 0"; else echo "0 1"; fi; }

# go test -v prints a line a test, subtests further in.
count_go() {
  echo "$(grep -cE '^ *--- PASS' "$LOGS/$1.log" || true) $(grep -cE '^ *--- FAIL' "$LOGS/$1.log" || true)"
}

# A file that failed before its tests ran is one failure.
count_vitest() {
  node -e '
    let told = {};
    try { told = JSON.parse(require("node:fs").readFileSync(process.argv[1], "utf8")); } catch {}
    const broken = (told.testResults ?? []).filter(
      (file) => file.status === "failed" && !file.assertionResults.some((test) => test.status === "failed"),
    );
    console.log(told.numPassedTests ?? 0, (told.numFailedTests ?? 0) + broken.length);
  ' "$LOGS/$1.json"
}

# go_module FOLDER: form, vet and tests. The tests are run anew each time: they look at the machine.
go_module() {
  cd "$ROOT/$1" || return
  local untidy
  untidy=$(gofmt -l .) || return
  if [ -n "$untidy" ]; then
    echo "not as gofmt writes it: $untidy"
    return 1
  fi
  go vet ./... && go test -count=1 -v ./...
}

vitest() {
  node_modules/.bin/vitest run --project "$1" --reporter=default --reporter=json --outputFile.json="$LOGS/$1.json"
}

"$ROOT/scripts/setup.sh"
use_node || die "there is no Node $NODE_MAJOR after the setup"
use_go || die "there is no Go after the setup"
cd "$ROOT"
export GOTOOLCHAIN=local
COLORS=force
if [ -z "$BOLD" ]; then
  COLORS=off
  export NO_COLOR=1
fi
rm -rf "$LOGS"
mkdir -p "$LOGS"

stage lint count_check node_modules/.bin/biome ci --colors=$COLORS .
stage types count_check node_modules/.bin/tsc --noEmit -p tsconfig.json
stage agent count_go go_module agent
stage helper count_go go_module helper
for project in unit clients network build vm; do stage $project count_vitest vitest $project; done

step "after $SECONDS s"
printf '    %s\n' "${SUMMARY[@]}"
echo "$PASSED passed, $FAILED failed"
[ "$FAILED" = 0 ] && [ "$PASSED" != 0 ]
