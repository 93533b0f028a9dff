#!/bin/sh
# Makes a data folder as a release writes it, for the test `old_data`: schema-N/store.sql and the files beside it.
# Run it with the release's own program, when that release has a schema that no fixture has yet:
#   crates/onelane/tests/data/make-fixture.sh path/to/onelane schema-N
# Needs sqlite3, curl and a free port 8797. It kills what it starts: a job is cut off as by a power cut.
set -eu
onelane=$(realpath "$1")
fixture=$(dirname "$(realpath "$0")")/$2
place=/tmp/onelane-fixture
url=http://127.0.0.1:8797
rm -rf "$place" "$fixture"
mkdir -p "$place" "$fixture"
cd "$place"
cat > onelane.toml <<'TOOLS'
[tools.report]
title = "Leaves results"
command = ["sh", "-c", "cat \"$0\" > \"$ONELANE_OUTPUT/copy.fasta\"; echo hello; exit \"$1\"", "{query}", "{code}"]
exit_codes = { 4 = "ran out of something" }
[tools.report.params.query]
type = "fasta"
alphabet = "protein"
[tools.report.params.code]
type = "integer"
default = 0
[tools.report.results.copy]
file = "copy.fasta"

[tools.sleep]
command = ["sleep", "{seconds}"]
[tools.sleep.params.seconds]
type = "number"
TOOLS
"$onelane" serve --config onelane.toml --data data --listen 127.0.0.1:8797 > log 2>&1 &
server=$!
until curl -sf "$url/readyz" > /dev/null; do sleep 0.1; done
# Submits a job by name, tool, parameters; prints its id.
job() {
    curl -sf "$url/api/v1/tools/$2/jobs?name=$1&tag=fixture" -H "Idempotency-Key: $1" \
        -H 'Content-Type: application/json' -d "$3" | sed 's/^{"id":"\([^"]*\)".*/\1/'
}
state() { curl -sf "$url/api/v1/jobs/$1" | sed 's/.*"state":"\([a-z]*\)".*/\1/'; }
until_state() { until [ "$(state "$1")" = "$2" ]; do sleep 0.05; done; }

id=$(job succeeded report '{"query": ">a\nACDE\n"}')
until_state "$id" succeeded
id=$(job failed report '{"query": ">a\nACDE\n", "code": 4}')
until_state "$id" failed
id=$(job cancelled sleep '{"seconds": 1000}')
curl -sf -X POST "$url/api/v1/jobs/$id/cancel" > /dev/null
until_state "$id" cancelled
id=$(job interrupted sleep '{"seconds": 3}')
until_state "$id" running
job queued-1 report '{"query": ">b\nFGHI\n"}' > /dev/null
job queued-2 sleep '{"seconds": 0}' > /dev/null
kill -9 "$server"
# Its shim and its guard, stopped first, so that neither sees the other die.
pids=$(sed -n 's/^ *"pid": \([0-9]*\),$/\1/p' "data/jobs/$(echo "$id" | tail -c 3)/$id/attempts/1/shim.json")
kill -STOP $pids
kill -9 $pids

# Another boot, and nothing of this machine.
boot=$(cat /proc/sys/kernel/random/boot_id)
other=00000000-0000-0000-0000-000000000000
{
    sqlite3 data/onelane.db .dump
    for pragma in application_id user_version; do
        echo "PRAGMA $pragma = $(sqlite3 data/onelane.db "PRAGMA $pragma");"
    done
} | sed "s/$boot/$other/g" > "$fixture/store.sql"
cp onelane.toml "$fixture"
cp -r data/jobs data/instance.json "$fixture"
grep -rl "$boot" "$fixture" | xargs -r sed -i "s/$boot/$other/g"
# git keeps no empty folder.
find "$fixture" -type d -empty -exec touch {}/.keep \;
rm -rf "$place"
