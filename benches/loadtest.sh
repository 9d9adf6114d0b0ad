#!/bin/bash
# The load generator beside others, on one server, in alternating rounds: benches/loadtest.sh
#
# Prints a table of medians for the README: requests a second, the generator's own CPU time for each
# request, and the most memory that it had. Generators are taken from PATH; those that are not there are
# left out. ROUNDS (5) and LENGTH (2, in seconds) may be set; MCLUSTER names another binary.
set -euo pipefail
cd "$(dirname "$0")/.."

rounds=${ROUNDS:-5} length=${LENGTH:-2}
mcluster=${MCLUSTER:-${CARGO_TARGET_DIR:-target}/release/mcluster}
[ -n "${MCLUSTER:-}" ] || cargo build --release --quiet

# The command of each generator: one thread, 64 connections that are kept.
command_of() {
    case $1 in
    mcluster) echo "$mcluster loadtest -k -c 64 --cores 1 -t $length --json $2" ;;
    wrk) echo "wrk -t1 -c64 -d${length}s $2" ;;
    oha) echo "oha --no-tui -c 64 -z ${length}s $2" ;;
    ab) echo "ab -q -k -c 64 -t $length -n 100000000 $2" ;;
    loadtest) echo "loadtest -k -c 64 --cores 1 -t $length $2" ;;
    autocannon) echo "autocannon -c 64 -d $length -j $2" ;;
    esac
}

# Requests a second, out of whatever a generator says.
rate_in() {
    sed -nE \
        -e 's/.*"effective_rps": ?([0-9.]+).*/\1/p' \
        -e 's/^ *Requests\/sec: *([0-9.]+).*/\1/p' \
        -e 's/^Requests per second: *([0-9.]+).*/\1/p' \
        -e 's/^Effective rps: *([0-9.]+).*/\1/p' \
        -e 's/.*"requests":\{"average":([0-9.]+).*/\1/p' "$1" | head -n 1
}

median() {
    sort -n | awk '{ all[NR] = $1 } END { print (all[int((NR + 1) / 2)] + all[int(NR / 2) + 1]) / 2 }'
}

generators=(mcluster)
for one in wrk oha ab loadtest autocannon; do
    if command -v "$one" >/dev/null; then generators+=("$one"); else echo "skipped: no $one in PATH" >&2; fi
done
[ -x /usr/bin/time ] || { echo "GNU time is not installed" >&2; exit 1; }

work=$(mktemp -d)
"$mcluster" serve -w 1 --listen 127.0.0.1:0 --control off >"$work/listening" 2>"$work/log" &
server=$!
trap 'kill $server 2>/dev/null || true; wait $server 2>/dev/null || true; rm -rf "$work"' EXIT
until [ -s "$work/listening" ]; do
    kill -0 $server || { cat "$work/log" >&2; exit 1; }
    sleep 0.05
done
url=$(sed 's/^listening on //; s/$/\//; q' "$work/listening")

for ((round = 1; round <= rounds; round++)); do
    # Who went first goes last in the next round.
    for one in "${generators[@]}"; do
        read -ra words <<<"$(command_of "$one" "$url")"
        # A small parent: the kernel counts the memory of who forked in the child's maximum.
        /usr/bin/time -o "$work/time" -f '%U %S %M' "${words[@]}" >"$work/out" 2>&1 ||
            { echo "$one failed:" >&2; tail -n 20 "$work/out" >&2; exit 1; }
        read -r user system memory <<<"$(tail -n 1 "$work/time")"
        rate=$(rate_in "$work/out")
        echo "$rate" >>"$work/$one.rate"
        awk "BEGIN { print ($user + $system) * 1e6 / ($rate * $length) }" >>"$work/$one.cpu"
        awk "BEGIN { print $memory / 1024 }" >>"$work/$one.memory"
    done
    generators=("${generators[@]:1}" "${generators[0]}")
done

echo "$rounds rounds of $length s each, 64 connections that are kept, one thread, $(nproc) CPUs; medians"
echo
echo "| generator | requests a second | of wrk's | CPU a request | memory |"
echo "|---|---|---|---|---|"
for one in mcluster wrk oha ab loadtest autocannon; do
    [ -s "$work/$one.rate" ] || continue
    ratio=-
    # Round by round, so that what slowed both down counts for neither.
    if [ -s "$work/wrk.rate" ]; then
        ratio=$(paste "$work/$one.rate" "$work/wrk.rate" | awk '{ print $1 / $2 }' | median)
        ratio=$(printf %.2f "$ratio")
    fi
    name=$one
    [ "$one" = mcluster ] && name="mcluster loadtest"
    printf '| %s | %.0f | %s | %.1f µs | %.1f MB |\n' "$name" \
        "$(median <"$work/$one.rate")" "$ratio" "$(median <"$work/$one.cpu")" "$(median <"$work/$one.memory")"
done
