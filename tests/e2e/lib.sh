# Running the program and judging what it did.
# shellcheck shell=bash
# shellcheck disable=SC2154  # variables of cli_test.sh

failures=0
child=
trap '[[ -z $child ]] || kill -KILL "$child" 2>/dev/null' EXIT

# ---- expectations ----

fail() { # fail WHAT FOUND EXPECTED
    printf '%s\n  found:    %s\n  expected: %s\n' "$1" "$2" "$3"
    failures=$((failures + 1))
}

expect() { # expect WHAT FOUND WANTED
    [[ $2 == "$3" ]] || fail "$1" "$2" "$3"
}

expect_lines() { # expect_lines WHAT FILE PATTERN COUNT: how many lines match
    local count
    count=$(grep -Ec -- "$3" "$2")
    ((count == $4)) || fail "$1: $2" "$count in: $(tail -c 2000 "$2")" "$4 lines with /$3/"
}

expect_match() { # expect_match WHAT FILE PATTERN
    grep -Eq -- "$3" "$2" || fail "$1: $2" "$(tail -c 2000 "$2")" "/$3/"
}

# After every run: no crash, and nothing from a sanitizer that the status would hide.
check_crash() { # check_crash COMMAND
    if ((status >= 128 && status != 130)); then
        fail "$1" "status $status, $(tail -c 2000 err)" 'no signal'
    fi
    if grep -Eq 'Sanitizer|runtime error:|internal error' err; then
        fail "$1" "$(tail -c 2000 err)" 'no internal error'
    fi
}

# ---- running the program ----

run() { # run ARGUMENT...: leaves out, err and $status
    status=0
    command="magicpig-pipe $*"
    command=${command:0:300}
    "$binary" "$@" >out 2>err || status=$?
    check_crash "$command"
}

expect_status() { # expect_status WANTED: of the last run
    expect "$command: status ($(tail -c 500 err))" "$status" "$1"
}

expect_refusal() { # expect_refusal STATUS PATTERN ARGUMENT...: a message and nothing else
    local wanted=$1 pattern=$2
    shift 2
    run "$@"
    expect_status "$wanted"
    expect "$command: stdout" "$(head -c 500 out)" ''
    expect_match "$command" err "^magicpig-pipe: error: .*$pattern"
}

generate() { # generate ARGUMENT...: with the demo model
    run --model "$demo" "$@"
}

start() { # start ARGUMENT...: in the background, as $child
    # Now, not when the child comes to it: wait_for must not find lines of the run before.
    : >out
    : >err
    command="magicpig-pipe --model $demo $*"
    "$binary" --model "$demo" "$@" >out 2>err &
    child=$!
}

wait_child() { # leaves $status
    status=0
    wait "$child" || status=$?
    child=
    check_crash "$command"
}

# wait_for FILE PATTERN: until a line matches, $child, which is to write it, has ended, or five minutes
# have passed: other tests may run beside this one.
wait_for() {
    local tries
    for ((tries = 0; tries < 3000; tries++)); do
        kill -0 "$child" 2>/dev/null || tries=3000 # what it has written last is still looked at
        grep -Eqs -- "$2" "$1" && return
        sleep 0.1
    done
    fail "$command: $1 in the end" "$(tail -c 500 "$1")" "/$2/"
}

# Skips the case on a machine of one core, and fails it if it is on one core by one_core.sh.
need_two_cores() {
    (($(nproc) == 1)) || return 0
    if [[ -n ${ONE_CORE:-} ]]; then
        fail "cores of $case_name" one 'all: a first line of the case that ends with "# on all cores"'
        exit 1
    fi
    exit 77
}

# ---- inputs and outputs ----

story() { # story SEED SENTENCES: a text to prompt with
    awk -v seed="$1" -v count="$2" 'BEGIN {
        split("baker sailor weaver doctor guard painter", who, " ")
        split("carried painted cleaned sold wrapped hid", did, " ")
        split("lantern barrel blanket rope clock map", what, " ")
        for (i = 0; i < count; i++) {
            seed = (seed * 1103 + 12345) % 65536
            printf "The old %s %s the %s. ", who[seed % 6 + 1], did[int(seed / 6) % 6 + 1],
                   what[int(seed / 36) % 6 + 1]
        }
    }'
}

# The program's own reader, which takes nothing but one strict JSON value, judges a file that holds
# an object.
expect_json_object() { # expect_json_object FILE
    expect_refusal 1 'expected an array, found an object' detokenize --model "$demo" --json "$1"
}

# One line of --output. An id may hold what is escaped in JSON.
number='-?[0-9][-+.0-9e]*'
string='([^"\\]|\\.)*'
output_line="^\\{\"id\":\"$string\",\"text\":\"$string\",\"token_ids\":\\[[0-9]+(,[0-9]+)*\\],"
output_line+='"prompt_tokens":[0-9]+,"generated_tokens":[0-9]+,"finish_reason":"(eos|length)",'
output_line+="\"prefill_seconds\":$number,\"decode_seconds\":$number,\"cached_tokens\":[0-9]+,"
output_line+="\"sampled_fraction\":($number|null),\"attention_error\":($number|null),"
output_line+="\"score\":($number|null),"
output_line+='"prompt":"[0-9a-f]{16}","settings":"[0-9a-f]{16}"\}$'

ids_of() { # ids_of FILE: the ids of an --output file's finished requests, in order
    sed -n 's/^{"id":"\([^"]*\)","text".*/\1/p' "$1" | paste -sd ' '
}

# ---- the demo ----

expect_answer() { # expect_answer RECORD ARGUMENT...: exactly the number that the record expects
    local record=$1 wanted
    shift
    wanted=$(sed -n 's/.*"outputs": \["\([0-9]*\)"\].*/\1/p' "$record")
    run --config "$source_dir/configs/magicpig_config.json" --input "$record" "$@"
    expect_status 0
    expect "$command: stdout" "$(<out)" ": $wanted."
}

demo_4k() { # demo_4k ARGUMENT...
    expect_answer "$source_dir/configs/data4k.json" "$@"
}

make_needle() { # a record of 1,213 tokens, quicker to read: needle.json
    [[ -s needle.json ]] || "$source_dir/scripts/make-needle.sh" -b 3600 -s 5 >needle.json
}

demo_1k() { # demo_1k ARGUMENT...
    make_needle
    expect_answer needle.json "$@"
}

sampled_within() { # sampled_within LOW HIGH: percent of the offloaded tokens in the mean, of the last run
    local found
    found=$(sed -n 's/^  sampled *\([0-9.]*\) % of the offloaded tokens.*/\1/p' err)
    awk -v x="$found" -v low="$1" -v high="$2" 'BEGIN { exit !(x >= low && x <= high) }' ||
        fail "$command: sampled" "$found %" "$1 % to $2 %"
}
