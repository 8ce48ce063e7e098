# Reads the part of YAML that a plan needs: a list of maps, whose values are words or maps of words,
# in either style. Prints a line for each fault: line, after, fault, arguments. Anything else
# is an error with its line, exit code 2.

function bad(line, why) {
    if (!failed) print name ":" line ": " why
    failed = 1
    exit 2
}

# A value without its quotes.
function plain(text) {
    if (text ~ /^".*"$/ || text ~ /^'.*'$/) text = substr(text, 2, length(text) - 2)
    if (text == "") bad(FNR, "a value is missing")
    if (text !~ /^[A-Za-z0-9_.:\/%@+,=[\]-]+$/) bad(FNR, "the value " text " may hold letters, digits and _ . : / % @ + , = [ ] - only")
    return text
}

function key_of(text) {
    if (!match(text, /^[a-z-]+:([ \t]|$)/)) bad(FNR, "\"" text "\" is no key and value, such as fault: stop-process")
    return substr(text, 1, RLENGTH - (text ~ /^[a-z-]+:$/ ? 1 : 2))
}

function value_of(text) {
    sub(/^[a-z-]+:[ \t]*/, "", text)
    return text
}

# One pair of target or with.
function argument(key, value) {
    if (section == "target" && key != "pid" && key != "thread") bad(FNR, "target has no " key ": pid and thread")
    if ((section, key) in seen) bad(FNR, key " stands there twice")
    seen[section, key] = 1
    arguments = arguments " --" key (value == "true" ? "" : " " value)
}

function finish() {
    if (began && fault == "") bad(began, "this one has no fault: such as fault: stop-process")
    if (began) print began, after, fault (hold == "" ? "" : " --for " hold) arguments
    fault = hold = arguments = section = ""
    after = "0s"
    split("", seen)
}

# key: value, at the level of the fault.
function pair(text,    key, value, pairs, count, number) {
    key = key_of(text)
    value = value_of(text)
    if (("", key) in seen) bad(FNR, key " stands there twice")
    seen["", key] = 1
    section = ""
    if (key == "fault") fault = plain(value)
    else if (key == "for") hold = plain(value)
    else if (key == "after") after = plain(value)
    else if (key == "target" || key == "with") {
        section = key
        if (value == "") return
        if (value !~ /^\{.*\}$/) bad(FNR, key ": is a map, such as {pid: 1234}")
        count = split(substr(value, 2, length(value) - 2), pairs, /,[ \t]+/)
        for (number = 1; number <= count; number++) {
            gsub(/^[ \t]+|[ \t]+$/, "", pairs[number])
            argument(key_of(pairs[number]), plain(value_of(pairs[number])))
        }
        section = ""
    } else bad(FNR, "there is no key " key ": fault, for, after, target, with")
}

{
    text = $0
    sub(/\r$/, "", text)
    if (text ~ /\t/) bad(FNR, "a tab: YAML takes blanks only")
    sub(/(^|[ ])#.*$/, "", text)
    sub(/ +$/, "", text)
    if (text == "" || text == "---" && !began) next
    match(text, /^ */)
    depth = RLENGTH
    text = substr(text, depth + 1)
    if (text ~ /^- /) {
        if (began && depth != dash) bad(FNR, "this dash stands elsewhere than the others")
        dash = depth
        finish()
        began = FNR
        match(text, /^- +/)
        inside = depth + RLENGTH
        pair(substr(text, RLENGTH + 1))
    } else if (!began) bad(FNR, "a plan is a list: it begins with a dash, such as - fault: stop-process")
    else if (depth == inside) pair(text)
    else if (depth > inside && section != "") argument(key_of(text), plain(value_of(text)))
    else bad(FNR, "\"" text "\" stands " depth " blanks in, and its fault " inside)
}

END {
    if (!failed) finish()
    if (failed) exit 2
}
