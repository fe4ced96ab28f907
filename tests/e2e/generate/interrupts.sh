# Signals.
# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # variables of cli_test.sh and lib.sh

case_interrupt() {
    printf '{"id": "short", "input": "Hello", "max_new_tokens": 3}
{"id": "long", "input": "Hello", "max_new_tokens": 60000}\n' >records.jsonl
    start --input records.jsonl --eos none --output answers.jsonl
    wait_for answers.jsonl '"short"'
    sleep 0.5
    kill -INT "$child"
    wait_child
    expect_status 130
    expect_match 'while generating' err 'interrupted: 1 of 2 requests finished'
    expect finished "$(ids_of answers.jsonl)" short
    expect_lines 'complete lines' answers.jsonl "$output_line" 1
}

case_interrupt_prefill() {
    local signal
    start --devices cpu --input "$source_dir/configs/data32k.json"
    wait_for err 'kernels:'
    sleep 0.3
    kill -INT "$child"
    wait_for err 'interrupt again to exit at once'
    local begin=$SECONDS
    kill -INT "$child"
    wait_child
    expect_status 130
    ((SECONDS - begin <= 3)) || fail 'second signal' "$((SECONDS - begin)) s" 'at most 3 s'
    expect stdout "$(<out)" ''

    # One is enough: it waits for no more than the tasks that run.
    for signal in INT TERM; do
        start --devices cpu --input "$source_dir/configs/data32k.json" --chunk-size 1024
        wait_for err 'kernels:'
        sleep 0.3
        begin=$SECONDS
        kill "-$signal" "$child"
        wait_child
        expect_status 130
        expect_match 'one signal' err 'error: interrupted while reading the prompt'
        ((SECONDS - begin <= 3)) || fail "$signal" "$((SECONDS - begin)) s" 'at most 3 s'
    done
}

# Before there is anything to finish, a signal ends the program at once.
case_interrupt_input() {
    local signal begin verb
    mkfifo input
    for verb in generate tokenize plan; do
        for signal in INT TERM; do
            sleep 60 >input &
            local writer=$!
            : >out
            : >err
            command="$verb, $signal while it waits for its input"
            case $verb in
            tokenize) "$binary" tokenize --model "$demo" <input >out 2>err & ;;
            *) "$binary" $verb --model "$demo" --input - <input >out 2>err & ;;
            esac
            child=$!
            sleep 0.2
            until grep -q 'State:.S' "/proc/$child/status"; do
                sleep 0.05
            done
            begin=$SECONDS
            kill "-$signal" "$child"
            wait_child
            kill "$writer"
            expect_status 130
            ((SECONDS - begin <= 2)) || fail "$command" "$((SECONDS - begin)) s" 'at once'
            expect "$command" "$(<err)" 'magicpig-pipe: error: interrupted'
        done
    done
    # While a text is turned into tokens, too.
    yes 'The old baker saw a small red fox near the river.' | head -c 60000000 >text
    "$binary" tokenize --model "$demo" <text >out 2>err &
    child=$!
    command='tokenize, INT in a long text'
    sleep 0.5
    begin=$SECONDS
    kill -INT "$child"
    wait_child
    expect_status 130
    ((SECONDS - begin <= 2)) || fail "$command" "$((SECONDS - begin)) s" 'at once'
}

# Interrupts a run with answers.jsonl as soon as that has a new line, and resumes it, until all is
# done. Every request that was finished when it ended is in the file.
interrupt_often() { # interrupt_often TOGETHER ARGUMENT...: so many finish in a step; leaves $interrupts
    local together=$1 before new
    shift
    : >answers.jsonl
    status=130 interrupts=0
    while ((status == 130)); do
        before=$(wc -l <answers.jsonl)
        start --output answers.jsonl --resume "$@"
        while kill -0 "$child" 2>/dev/null && (($(wc -l <answers.jsonl) == before)); do
            sleep 0.02
        done
        kill -INT "$child" 2>/dev/null
        wait_child
        new=$(($(wc -l <answers.jsonl) - before))
        if ((status == 130)); then
            expect_match 'as many as written' err "interrupted(: $new of | while reading the prompt)"
            ((new > 0 && new % together == 0)) ||
                fail 'interrupted' "$new finished" "a multiple of $together"
            ((new > 0)) || return
            interrupts=$((interrupts + 1))
        fi
    done
    expect_status 0
}

same_answers() { # same_answers WHAT: whole.jsonl and answers.jsonl, in any order
    expect "$1" "$(sort answers.jsonl | sed 's/,"prefill_seconds.*//')" \
        "$(sort whole.jsonl | sed 's/,"prefill_seconds.*//')"
}

case_interrupt_join() {
    local i arguments=(--devices cpu --input records.jsonl --eos none --batch 2 --chunk-size 16)
    # One decodes for long; beside it prompts are read one after the other, for a second each.
    {
        printf '{"id": "0", "input": "Hello", "max_new_tokens": 200}\n'
        for i in 1 2 3 4; do
            printf '{"id": "%d", "input": "%s", "max_new_tokens": 3}\n' "$i" "$(story "$i" 20)"
        done
    } >records.jsonl
    generate "${arguments[@]}" --output whole.jsonl
    expect_status 0
    interrupt_often 1 "${arguments[@]}" --prefill-share 0.3
    ((interrupts >= 1)) || fail 'while a prompt is read' "$interrupts interrupts" 'at least 1'
    same_answers 'requests that join'

    # Read at once, two and two finish in the same step: the signal takes neither.
    for i in 1 2 3 4 5 6; do
        printf '{"id": "%d", "input": "%s", "max_new_tokens": 5}\n' "$i" "$(story "$i" 3)"
    done >records.jsonl
    rm whole.jsonl
    generate "${arguments[@]}" --output whole.jsonl
    expect_status 0
    interrupt_often 2 "${arguments[@]}" --prefill-share 1
    same_answers 'requests that finish together'
}
