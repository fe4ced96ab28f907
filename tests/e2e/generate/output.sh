# --output, and outputs that cannot be written.
# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # variables of cli_test.sh and lib.sh

case_output() {
    cat >records.jsonl <<'END'
{"id": "a", "input": "Hello", "outputs": ["no such answer"]}
{"id": "b \" quoted", "input": "world"}
{"input": "again"}
END
    exec 9>>answers.jsonl
    flock 9
    expect_refusal 2 '--output: answers.jsonl: another run writes to it' \
        --model "$demo" --input records.jsonl --output answers.jsonl
    exec 9>&-
    generate --input records.jsonl --gen-len 3 --eos none --output answers.jsonl
    expect_status 0
    expect_lines 'complete lines' answers.jsonl "$output_line" 3
    expect_lines 'score' answers.jsonl '^\{"id":"a".*"score":0,' 1
    expect_lines 'position as id' answers.jsonl '^\{"id":"2",' 1
    expect_lines 'three tokens' answers.jsonl '"token_ids":\[[0-9]+,[0-9]+,[0-9]+\],' 3
    cp answers.jsonl first.jsonl
    expect_refusal 2 'answers.jsonl: exists .*--resume' --model "$demo" --input records.jsonl \
        --output answers.jsonl
    expect 'refused: file' "$(<answers.jsonl)" "$(<first.jsonl)"
}

# Lines on stdout instead of the texts.
case_output_stdout() {
    local output
    printf '{"id": "a", "input": "Hello"}\n{"id": "b", "input": "Bye"}\n' >records.jsonl
    for output in - /dev/stdout; do
        generate --input - --gen-len 2 --eos none --output "$output" <records.jsonl
        expect_status 0
        expect_lines "$output" out "$output_line" 2
        expect "$output: nothing else" "$(wc -l <out)" 2
        "$binary" --model "$demo" --input records.jsonl --gen-len 2 --eos none --output "$output" 2>err | cat >out
        expect_lines "$output, a pipe" out "$output_line" 2
        expect "$output, a pipe: nothing else" "$(wc -l <out)" 2
    done
    expect_refusal 2 '--resume needs --output FILE, found -' \
        --model "$demo" --prompt x --output - --resume
    expect_refusal 2 'trace.file: found -, expected' --model "$demo" --prompt x --trace -
    expect_refusal 2 '--output: found -, expected' logits --model "$demo" --tokens ids.json --output -
    expect 'files' "$(echo *)" 'err out records.jsonl'
}

case_closed_pipe() {
    local arguments=(--model "$demo" --prompt Hello --gen-len 200 --eos none)
    "$binary" "${arguments[@]}" --output answers.jsonl 2>err | head -c 1 >out
    status=${PIPESTATUS[0]} command='with --output'
    check_crash "$command"
    expect_status 0
    expect_lines 'complete lines' answers.jsonl "$output_line" 1
    expect_match 'all tokens' answers.jsonl '"generated_tokens":200,'
    expect_match 'closed pipe' err 'warning: stdout: .*Broken pipe'

    "$binary" "${arguments[@]}" 2>err | head -c 1 >out
    status=${PIPESTATUS[0]} command='without --output'
    check_crash "$command"
    expect_status 1
    expect_match 'closed pipe' err 'error: stdout: .*Broken pipe'
}

case_full_disk() {
    [[ -c /dev/full ]] || exit 77
    generate --prompt Hello --gen-len 2 --output /dev/full
    expect_status 1
    expect_match '--output' err 'error: /dev/full: cannot write: No space'
    echo '[1, 2]' >ids.json
    expect_refusal 1 '/dev/full: cannot write: No space' \
        logits --model "$demo" --tokens ids.json --output /dev/full
    [[ -c /dev/full ]] || fail 'the device' 'gone' 'still there'
    # A limit on file sizes is an error as well, not the end.
    status=0
    command='a limit of 1 KiB'
    (ulimit -f 1 && "$binary" --model "$demo" --prompt Hello --gen-len 400 --eos none \
        --output large.jsonl) >out 2>err || status=$?
    check_crash "$command"
    expect_status 1
    expect_match "$command" err 'error: large.jsonl: cannot write: File too large'
    # Nor does it leave half a report or trace: those of before stay.
    local option
    for option in trace report; do
        echo before >"$option"
        status=0
        command="--$option, a limit of 4 KiB"
        (ulimit -f 4 && "$binary" --model "$demo" --prompt Hello --gen-len 40 --eos none \
            "--$option" "$option") >out 2>err || status=$?
        check_crash "$command"
        expect_status 1
        expect_match "$command" err "error: $option: cannot write: File too large"
        expect "$command: file" "$(<"$option")" before
        expect "$command: files" "$(echo "$option"*)" "$option"
    done
    local verb
    for verb in generate tokenize plan --help; do
        local arguments=("$verb")
        case $verb in
        generate) arguments+=(--model "$demo" --prompt Hello --gen-len 2) ;;
        tokenize) arguments+=(--model "$demo") ;;
        plan) arguments+=(--model "$demo" --context 100) ;;
        esac
        status=0
        command="$verb to a full stdout"
        "$binary" "${arguments[@]}" 2>err >/dev/full || status=$?
        check_crash "$command"
        expect_status 1
        expect_match "$command" err 'error: stdout: cannot write: No space'
    done
}
