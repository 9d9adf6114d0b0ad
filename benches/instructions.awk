# What benches/instructions.sh --breakdown makes of callgrind's file, in two passes.
#
# The first prints for each address of the binary "ADDRESS SELF CALLED": what was spent at it, and in what was
# called from it; for code of other objects "OBJECT:FUNCTION SELF 0". The second, with `frames` from addr2line,
# sums these up by the functions that are inlined at the address, which callgrind knows nothing of.

function name(text) {
    sub(/^[^=]*=/, "", text)
    sub(/^\([0-9]+\) */, "", text)
    return text
}

# Which room of the source a frame is of; "" for what std and the compiler add, which counts for its caller.
function room(file, fn) {
    if (file ~ /\/(rustc|library)\//) return ""
    if (match(file, /\/[a-z_]+-[0-9]+\.[0-9][^\/]*\//)) {
        fn = substr(file, RSTART + 1, RLENGTH - 2)
        sub(/-[0-9].*/, "", fn)
        return fn
    }
    if (match(file, /\/(src|benches)\/.*\.rs/)) {
        file = substr(file, RSTART + 1, RLENGTH - 4)
        sub(/^src\//, "", file)
        return file
    }
    return ""
}

function short(text) {
    gsub(/<impl [^<>]*>/, "", text)
    sub(/\[[0-9a-f]+\]/, "", text)
    gsub(/::h[0-9a-f]{16}$/, "", text)
    return text
}

function flush_frames(    at, first, seen, where) {
    if (address == "") return
    first = ""
    split("", seen)
    for (at = 1; at <= deep; at++) {
        where = room(file_of[at])
        if (where == "") continue
        if (first == "") first = where
        if (!((where SUBSEP function_of[at]) in seen)) {
            seen[where, function_of[at]] = 1
            functions_of[address] = functions_of[address] "\n" where " " short(function_of[at])
        }
        if (at_function[address] == "") at_function[address] = where " " short(function_of[at])
    }
    # std that is not inlined belongs to nobody.
    if (first == "") first = "std"
    room_of[address] = first
}

function by_value(table, title, most,    key, line, command) {
    printf "\n%s\n", title
    command = "sort -rn | head -" most
    for (key in table) {
        if (table[key] / requests >= 0.5) printf "%9.1f  %s\n", table[key] / requests, key | command
    }
    close(command)
}

BEGIN {
    while (frames && (getline line < frames) > 0) {
        if (line ~ /^0x/) {
            flush_frames()
            address = line
            sub(/^0x0*/, "0x", address)
            deep = 0
            half = 0
        } else if (half = !half) {
            deep++
            function_of[deep] = line
        } else {
            file_of[deep] = line
        }
    }
    flush_frames()
}

frames {
    self = $(NF - 1)
    called = $NF
    if ($1 ~ /^0x/) {
        address = $1
        own[room_of[address]] += self
        if (at_function[address] != "") own_function[at_function[address]] += self
        count = split(functions_of[address], rooms, "\n")
        for (at = 2; at <= count; at++) with_function[rooms[at]] += self + called
    } else {
        place = $0
        sub(/ [0-9]+ [0-9]+$/, "", place)
        own[place] += self
    }
    next
}

# The first pass.
/^ob=/ { object = name($0); next }
/^fn=/ { fn = name($0); next }
/^calls=/ { calling = 1; next }
/^0x/ {
    if (calling) called_at[where_of($1)] += $2
    else self_at[where_of($1)] += $2
    calling = 0
}

function where_of(address,    file) {
    if (object == binary) {
        known[address] = 1
        return address
    }
    file = object
    sub(/.*\//, "", file)
    known[file ":" fn] = 1
    return file ":" fn
}

END {
    if (frames) {
        printf "%.1f instructions a request\n", total / requests
        by_value(own, "by room, its own (what std adds counts for its caller)", 40)
        by_value(own_function, "by function, its own", 40)
        by_value(with_function, "by function, with what it calls", 70)
    } else {
        for (key in known) {
            printf "%s %d %d\n", key, self_at[key], key ~ /^0x/ ? called_at[key] : 0
        }
    }
}
