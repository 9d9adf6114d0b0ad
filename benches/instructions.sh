#!/bin/bash
# Instructions a request: benches/instructions.sh [--check | --record | --breakdown [SCENE]]
#
# Plays the scenes of benches/instructions.rs under callgrind and prints what one request (or connection) of
# each costs in user space, beside the figure in benches/instructions.txt. --check fails where a scene is more
# than 3 % above it. Figures are of one compiler, libc and kind of processor; where these differ, it fails where
# a scene has grown by more than 15 % against the scene `reference`, which has no code of ours. --record writes
# the file. --breakdown says which parts of the code the instructions of one scene (keep-alive) are in.
# INSTRUCTIONS names a binary of the bench that is built already.
set -euo pipefail
cd "$(dirname "$0")/.."

recorded=benches/instructions.txt
bound=3 loose=15
mode=${1:-}
case $mode in
"" | --check | --record | --breakdown) ;;
*)
    sed -n '2,9s/^# \?//p' "$0" >&2
    exit 2
    ;;
esac
command -v valgrind >/dev/null || { echo "there is no valgrind" >&2; exit 1; }

# The same profile and features as all benches have in .ci/run, so that it is there already.
binary=${INSTRUCTIONS:-}
if [ -z "$binary" ]; then
    said=$(cargo bench --no-run --bench instructions --all-features 2>&1) || { echo "$said" >&2; exit 1; }
    binary=$(sed -n 's/.*Executable .*(\(.*\))$/\1/p' <<<"$said")
fi
[ -x "$binary" ] || { echo "the bench cannot be built" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Requests of one count. Even the cheapest scene is then far above what happens once a second.
requests=6400

# What the figures depend on, beside the sources.
key() {
    local vectors
    vectors=$(grep -qsw avx2 /proc/cpuinfo && echo avx2 || echo plain)
    echo "$(rustc -V), $(uname -m) $vectors, $(getconf GNU_LIBC_VERSION 2>/dev/null || echo "another libc")"
}

# Plays scene $1, $2 times, with more options for callgrind; the instructions go to stdout. No more of the
# environment than is needed: it lies on the stack, and where things lie must not differ.
count() {
    local scene=$1 times=$2
    shift 2
    timeout 120 env -i TMPDIR="$work" setarch -R valgrind --tool=callgrind --callgrind-out-file="$work/$scene.out" \
        --toggle-collect='*counted_step*' "$@" "$binary" "$scene" "$times" 2>"$work/$scene.log" ||
        { cat "$work/$scene.log" >&2; return 1; }
    awk '/^(summary|totals):/ { total = $2 } END { if (total > 0) print total; else exit 1 }' "$work/$scene.out"
}

# Instructions of one request of scene $1, of which one time has $2; with one decimal.
figure() {
    local times=$((requests / $2)) total
    total=$(count "$1" "$times") || { echo "$1: nothing was counted" >&2; return 1; }
    awk -v total="$total" -v requests=$((times * $2)) 'BEGIN { printf "%.1f\n", total / requests }'
}

breakdown() {
    local scene=${1:-keep-alive} of_one
    of_one=$("$binary" | awk -v scene="$scene" '$1 == scene { print $2 }')
    [ -n "$of_one" ] || { echo "there is no scene $scene" >&2; return 1; }
    local times=$((requests / of_one)) total
    total=$(count "$scene" "$times" --dump-instr=yes --dump-line=no --compress-strings=no --compress-pos=no)
    # Each address with what was spent at it and in what was called from it, and then whose code it is: what
    # was inlined counts for the function that it is of.
    awk -v binary="$binary" -f benches/instructions.awk "$work/$scene.out" >"$work/spent"
    cut -d' ' -f1 "$work/spent" | sort -u >"$work/addresses"
    addr2line -e "$binary" -a -i -f -C <"$work/addresses" >"$work/frames"
    awk -v requests=$((times * of_one)) -v total="$total" -f benches/instructions.awk \
        -v frames="$work/frames" "$work/spent"
}

if [ "$mode" = --breakdown ]; then
    breakdown "${2:-}"
    exit
fi

[ -f "$recorded" ] || recorded=/dev/null
was=$(sed -n 's/^# //p' "$recorded" | tail -1)
now=$(key)
same=1
[ "$was" = "$now" ] || same=0
if [ "$mode" != --record ] && [ $same = 0 ]; then
    echo "not compared one by one, but with the reference: recorded with $was; this is $now"
fi
old() { awk -v scene="$1" '$1 == scene { print $2 }' "$recorded"; }

# The ratio of now to then: of the figures, or of what they are to the reference of their time.
ratio() {
    awk -v now="$1" -v then="${2:-0}" -v same=$same -v reference="$reference" -v other="$(old reference)" \
        'BEGIN { if (then > 0) printf "%.3f", same ? now / then : now / reference / (then / other) }'
}
above() { awk -v ratio="${1:-1}" -v percent="$2" 'BEGIN { exit !(ratio > 1 + percent / 100) }'; }

[ $same = 1 ] || bound=$loose
failed=0 reference=
declare -A figures
[ "$mode" != --record ] || : >"$work/new"
printf '| %-20s | %21s | %10s | %6s |\n' scene "instructions a request" recorded ratio
printf '|---|--:|--:|--:|\n'
while read -r scene of_one; do
    new=$(figure "$scene" "$of_one")
    : "${reference:=$new}"
    then=$(old "$scene")
    if [ "$mode" = --check ] && above "$(ratio "$new" "$then")" "$bound"; then
        # The kernel may have delivered something late, which costs a turn of the loop: once more.
        again=$(figure "$scene" "$of_one")
        new=$(printf '%s\n%s\n' "$new" "$again" | sort -n | head -1)
    fi
    figures[$scene]=$new
    ratio=$(ratio "$new" "$then")
    printf '| %-20s | %22s | %10s | %6s |\n' "$scene" "$new" "${then:--}" "${ratio:--}"
    if [ "$mode" = --check ] && [ -z "$then" ]; then
        echo "$scene: nothing is recorded of it" >&2
        failed=1
    elif [ "$mode" = --check ] && above "$ratio" "$bound"; then
        echo "$scene: more than $bound % above what was recorded" >&2
        failed=1
    fi
    [ "$mode" != --record ] || echo "$scene $new" >>"$work/new"
done < <("$binary")
awk -v whole="${figures[keep-alive]}" -v parse="${figures[parse-plain]}" -v route="${figures[route-plain]}" \
    -v encode="${figures[encode-head]}" \
    'BEGIN { printf "keep-alive: parse %d, route %d, encode %d, loop and connection %d\n",
        parse, route, encode, whole - parse - route - encode }'
if [ "$mode" = --record ]; then
    {
        echo "# Instructions a request, by benches/instructions.sh --record, with this compiler, processor and libc:"
        echo "# $now"
        cat "$work/new"
    } >benches/instructions.txt
fi
exit $failed
