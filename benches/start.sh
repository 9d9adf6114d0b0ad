#!/bin/bash
# A Node program under `mcluster start`, under Node's own cluster and under PM2, side by side: benches/start.sh
#
# Prints a table for the README: memory of the primary, its CPU time for each new connection, how long until
# all workers answer, how long a killed worker is missed, and what a reload under load costs. What is not
# there is left out. WORKERS (2), ROUNDS (3) and CONNECTIONS (20000) may be set; MCLUSTER names another
# binary. PM2 is installed into a folder below target/ and has its files in a temporary one.
set -euo pipefail
cd "$(dirname "$0")/.."

export WORKERS=${WORKERS:-2} ROUNDS=${ROUNDS:-3} CONNECTIONS=${CONNECTIONS:-20000}
target=${CARGO_TARGET_DIR:-target}
export MCLUSTER=${MCLUSTER:-$target/release/mcluster}
[ -x "$MCLUSTER" ] || cargo build --release --quiet
command -v node >/dev/null || { echo "there is no node" >&2; exit 1; }

if tests/programs/setup "$target/tmp/programs" pm2; then
    PM2=$(cd "$target/tmp/programs/pm2/node_modules/pm2" && pwd)/bin/pm2
    export PM2
fi
exec node benches/start/measure.js
