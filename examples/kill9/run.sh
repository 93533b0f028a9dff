#!/bin/sh
# run.sh onelane|celery|celery-late|tsp|pueue|beanstalkd|all
# Installs what is asked for (Debian packages as root, Python packages into target/kill9), and observes it.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
tools=${CARGO_TARGET_DIR:-$root/target}/kill9
mkdir -p "$tools"
wanted=${1:?usage: run.sh onelane|celery|celery-late|tsp|pueue|beanstalkd|all}
[ "$wanted" = all ] && wanted="onelane tsp pueue celery celery-late beanstalkd"

package() {
    command -v "$1" >/dev/null || apt-get install -y -q --no-install-recommends "$2" >&2
}
python() {
    [ -x "$tools/venv/bin/python" ] || python3 -m venv "$tools/venv"
    PATH="$tools/venv/bin:$PATH"
    python3 -c "import $1" 2>/dev/null || pip install -q $2
}

have=
for system in $wanted; do
    if case $system in
        onelane)
            # Two builds: the second takes over what the first has begun.
            (cd "$root" && cargo build -q && cargo build -q --release) &&
                export ONELANE="$root/target/debug/onelane" ONELANE_NEXT="$root/target/release/onelane" ;;
        tsp) package tsp task-spooler ;;
        beanstalkd) package beanstalkd beanstalkd && python greenstalk greenstalk==2.1.1 ;;
        celery | celery-late) package redis-server redis-server && python celery "celery[redis]==5.7.0 packaging" ;;
        pueue)
            # Not in Debian 12; from crates.io, into a folder of its own.
            PATH="$tools/pueue/bin:$PATH"
            command -v pueued >/dev/null || cargo install -q --locked pueue --root "$tools/pueue" ;;
        *) echo "there is no system '$system' here" >&2; exit 2 ;;
    esac; then
        have="$have $system"
    else
        echo "LEFT OUT: $system can't be installed here" >&2
    fi
done
exec python3 "$here/observe.py" $have
