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
