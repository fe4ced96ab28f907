# --resume.
# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # variables of cli_test.sh and lib.sh

case_resume() {
    local i
    for i in a b c d; do
        printf '{"id": "%s", "input": "%s"}\n' "$i" "$(story 1 5)$i"
    done >records.jsonl
    generate --input records.jsonl --gen-len 3 --eos none --output whole.jsonl
    expect_status 0
    cp out whole
    # Two lines and a half.
    { head -n 2 whole.jsonl && sed -n 3p whole.jsonl | head -c 60; } >answers.jsonl
    generate --input records.jsonl --gen-len 3 --eos none --output answers.jsonl --resume
    expect_status 0
    expect 'resumed: stdout' "$(<out)" "$(tail -n 2 whole)"
    expect_lines 'complete lines' answers.jsonl "$output_line" 4
    expect 'token ids' "$(sed 's/,"prefill_seconds.*//' answers.jsonl)" \
        "$(sed 's/,"prefill_seconds.*//' whole.jsonl)"
    generate --input records.jsonl --gen-len 3 --eos none --output answers.jsonl --resume
    expect_status 0
    expect 'nothing left: stdout' "$(<out)" ''
    expect 'nothing left: lines' "$(wc -l <answers.jsonl)" 4
    generate --input records.jsonl --gen-len 3 --eos none --output new.jsonl --resume
    expect_status 0
    expect '--resume of no file' "$(ids_of new.jsonl)" 'a b c d'
    # The input has changed: what is new is answered, whatever ids it has now.
    { printf '{"id": "a", "input": "another text"}\n' && tail -n 3 records.jsonl; } >changed.jsonl
    generate --input changed.jsonl --gen-len 3 --eos none --output answers.jsonl --resume
    expect_status 0
    expect_match 'changed input' err \
        'warning: --resume: 1 finished line of answers.jsonl belongs to no record of the input'
    expect 'changed input: ids' "$(ids_of answers.jsonl)" 'a b c d a'
    # An id alone is no answer.
    printf '{"id":"a"}\n' >ids.jsonl
    generate --input records.jsonl --gen-len 3 --eos none --output ids.jsonl --resume
    expect_status 0
    expect_lines 'answers beside an id' ids.jsonl "$output_line" 4
    cp records.jsonl mine.jsonl
    printf '{"id": "no newline"}' >>mine.jsonl
    cp mine.jsonl before.jsonl
    expect_refusal 2 'mine.jsonl:1: found a line that --output does not write' --model "$demo" \
        --input records.jsonl --output mine.jsonl --resume
    expect 'another file is left alone' "$(<mine.jsonl)" "$(<before.jsonl)"
    expect_refusal 2 '--resume needs --output' --model "$demo" --prompt x --resume
}

# No id is twice in an output: neither of records that share one, nor of one that cannot be read.
case_resume_same_id() {
    printf '{"id": "a", "input": "Hello"}\n' >one.jsonl
    printf '{"id": "a", "input": "Hello"}\n{"id": "a", "input": "Good bye"}\n' >two.jsonl
    generate --input one.jsonl --gen-len 2 --eos none --output answers.jsonl
    generate --input two.jsonl --gen-len 2 --eos none --output answers.jsonl --resume
    expect_status 0
    expect_match 'shared id' err 'warning: two.jsonl: 1 record has the id of one before: the first, in line 2, is "a#2"'
    expect 'ids' "$(ids_of answers.jsonl)" 'a a#2'
    # Nothing is left to do: nothing is loaded.
    generate --input two.jsonl --gen-len 2 --eos none --output answers.jsonl --resume
    expect_status 0
    expect 'ids' "$(ids_of answers.jsonl)" 'a a#2'
    expect_lines 'no start of StarPU' err StarPU 0

    printf '{"index":1,"input":"Hello"}\n{"index":0,"input":"bad \\ud83d"}\n' >broken.jsonl
    generate --input broken.jsonl --gen-len 2 --output broken-answers.jsonl
    expect_status 1
    expect_lines 'answer' broken-answers.jsonl '^\{"id":"1","text"' 1
    expect_lines 'error' broken-answers.jsonl '^\{"id":"1#2","error":"broken.jsonl:2:' 1
}

# Lines of another run are not counted, and that is said.
case_resume_settings() {
    local settings=(--gen-len 3 --eos none --attention magicpig --lsh-k 8 --lsh-l 75)
    local long
    long=$(story 5 8)
    printf '{"id": "a", "input": "%s"}\n' "$long" >records.jsonl
    printf '{"id": "a", "input": "%s"}\n' "${long/#The old/The new}" >other.jsonl
    generate --input records.jsonl "${settings[@]}" --output first.jsonl
    expect_status 0
    local change
    for change in '--attention full' '--lsh-k 9' '--lsh-l 76' '--lsh-seed 3' '--center 0' '--generation-budget 100' \
        '--cache-layers none' '--kv-dtype int8' '--window-size 60' '--gen-len 4' '--eos 4095' '--temperature 1' \
        '--temperature 1 --seed 2' "--model $golden/llama3-rope"; do
        [[ $change == --model* ]] && printf '{"id": "a", "input_ids": [5, 6, 7]}\n' >records.jsonl
        [[ $change == *full ]] && set -- "${settings[@]:0:4}" || set -- "${settings[@]}"
        if [[ $change == --model* ]]; then
            generate --input records.jsonl "$@" --output first.jsonl --resume
            expect_lines 'a prompt of ids' first.jsonl "$output_line" 2
        fi
        cp first.jsonl answers.jsonl
        # shellcheck disable=SC2086  # words of a flag
        generate --input records.jsonl "$@" $change --output answers.jsonl --resume
        expect_status 0
        expect_match "$change" err \
            'warning: --resume: 1 finished line of answers.jsonl was made by another model or with other'
        expect "$change: lines" "$(wc -l <answers.jsonl)" "$(($(wc -l <first.jsonl) + 1))"
        # What has been added is this run's.
        # shellcheck disable=SC2086
        generate --input records.jsonl "$@" $change --output answers.jsonl --resume
        expect "$change again: lines" "$(wc -l <answers.jsonl)" "$(($(wc -l <first.jsonl) + 1))"
    done
    rm answers.jsonl
    printf '{"id": "a", "input": "%s"}\n' "$long" >records.jsonl
    generate --input records.jsonl "${settings[@]}" --output answers.jsonl
    # A prompt of the same length, and what a record has of its own.
    generate --input other.jsonl "${settings[@]}" --output answers.jsonl --resume
    expect_match 'another prompt' err '1 finished line of answers.jsonl belongs to no record'
    printf '{"id": "a", "input": "%s", "stop": "baker"}\n' "$long" >stop.jsonl
    generate --input stop.jsonl "${settings[@]}" --output answers.jsonl --resume
    expect_match 'another stop' err '1 finished line of answers.jsonl was made'
    expect 'tokens' "$(grep -o '"prompt_tokens":[0-9]*' answers.jsonl | sort -u | wc -l)" 1
    expect 'lines' "$(wc -l <answers.jsonl)" 3
    # What changes no answer changes nothing here.
    generate --input records.jsonl "${settings[@]}" --output answers.jsonl --resume --batch 2 --threads 1
    expect 'lines' "$(wc -l <answers.jsonl)" 3
}

# Lines that other tools have written again, and errors that are there.
case_resume_lines() {
    printf '{"id": "a", "input": "Hello"}\n{"id": "b", "input": 5}\n{"id": "c", "input": "Bye"}\n' >records.jsonl
    local settings=(--input records.jsonl --gen-len 3 --eos none --output answers.jsonl)
    generate "${settings[@]}"
    expect_status 1
    expect 'lines' "$(wc -l <answers.jsonl)" 3
    # Blanks around all colons, keys in another order, a blank line, and no newline at the end.
    sed -n 2p answers.jsonl >error
    grep '"text"' answers.jsonl |
        sed -e 's/":/": /g' -e 's/^{\("id": "."\), \{0,1\}\(.*\)}$/{\2, \1}/' >again
    { head -n 1 again && printf '\n  \r\n' && cat error && printf '%s' "$(tail -n 1 again)"; } >answers.jsonl
    cp answers.jsonl before
    generate "${settings[@]}" --resume
    expect_status 1
    expect_match 'the error is told again' err 'error: record b: records.jsonl:2:'
    expect 'nothing is added' "$(<answers.jsonl)" "$(<before)"
    printf '{"id": "d", "input": "More"}\n' >>records.jsonl
    generate "${settings[@]}" --resume
    expect 'one line more' "$(head -n 5 answers.jsonl)" "$(<before)"
    expect_lines 'whole lines' answers.jsonl '^\{"id":"d","text"' 1
    expect 'lines' "$(wc -l <answers.jsonl)" 6
}
