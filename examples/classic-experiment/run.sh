#!/bin/sh
# The experiment of the lessons on Node's cluster: ten clients, 100 requests a second, 100 requests of
# work for a CPU; first at one worker, then at one for each CPU. Prints both summaries side by side.
#
#     ./run.sh [MCLUSTER [REQUESTS]]
#
# Each server listens on a free port and has no control socket, so nothing else is disturbed.
set -eu

PROGRAM=${1:-mcluster}
requests=${2:-100}
# The servers are to say nothing but what is wrong.
RUST_LOG=error
export PROGRAM RUST_LOG

# What one request is to take on one CPU, in microseconds. 100 a second of these need one and a half
# CPUs: more than one worker has, and less than two have.
wanted=15000

# measure WORKERS OPTION...: the load test, with a server of its own.
measure() {
    server="serve --workers $1 --pool 0 --listen 127.0.0.1:0 --control off"
    shift
    "$PROGRAM" loadtest --spawn "exec \"\$PROGRAM\" $server" "$@"
}

# How far a CPU of this machine counts in that time, by the fastest of some requests: the others may have
# had to share it.
probe=10000000
took=$(measure 1 --json -k -c 1 -n 20 "/heavy?n=$probe" |
    sed -n 's/.*"min": *\([0-9]*\).*/\1/p' | head -n 1)
case $took in
'' | 0 | *[!0-9]*)
    echo "run.sh: $PROGRAM did not say how long counting to $probe takes" >&2
    exit 1
    ;;
esac
n=$((probe * wanted / took))
echo "Counting to $n takes one CPU $((wanted / 1000)) ms; there are $(nproc)."
echo

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for workers in 1 max; do
    {
        echo "--workers $workers"
        measure "$workers" -c 10 --rps 100 -n "$requests" "/heavy?n=$n"
    } > "$folder/said"
    fold -s -w 72 "$folder/said" > "$folder/$workers"
    # In whole milliseconds.
    eval "mean_$workers=$(sed -n 's/^Mean latency: *\([0-9]*\)[^0-9].*/\1/p' "$folder/said" | head -n 1)"
done
pr -m -t -w 148 "$folder/1" "$folder/max" | expand
if [ "${mean_max:-0}" -ge "${mean_1:-0}" ]; then
    echo
    echo "More workers did not help: these $(nproc) CPUs had no time for them, or the run was too short."
fi
