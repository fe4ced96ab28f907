# Cases of the verb tune.
# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # variables of cli_test.sh and lib.sh

case_tune() { # on all cores
    cat >config.json <<END
{"model_path": "$demo", "lsh_K": 9, "gen_len": 3, "eos": [], "runtime": {"isa": "auto"}}
END
    local arguments=(tune --config config.json --context 300 --steps 3 --batch 2 --devices cpu
        --output tuned.json) lines
    # Interrupted, and resumed: what was measured and shown is not done again.
    command="magicpig-pipe ${arguments[*]}"
    "$binary" "${arguments[@]}" >out 2>err &
    child=$!
    wait_for out '^runtime.scheduler '
    kill -INT "$child"
    wait_child
    expect_status 130
    expect_match 'message' err 'interrupted: tuned.json has the best so far; --resume'
    cp out first
    cp tuned.json.state state
    run plan --config tuned.json --context 300
    expect_status 0
    run "${arguments[@]}" --resume
    expect_status 0
    lines=$(wc -l <first)
    expect 'lines shown before' "$(head -n "$lines" out)" "$(<first)"
    lines=$(wc -l <state)
    expect 'measurements made before' "$(head -n "$lines" tuned.json.state)" "$(<state)"
    ((lines < $(wc -l <tuned.json.state))) || fail 'resumed' "$lines lines" 'more measurements'

    cp out first
    cp tuned.json.state state
    expect_match 'model' out '^llama, 8 layers'
    expect_match 'start' out '^start +[0-9.]+ +[0-9.]+ +[0-9]+ % +(#+|█+)$'
    local key
    for key in runtime.micro_batches runtime.scheduler runtime.prefill_share; do
        expect_match "$key" out "^$key +[^ ]+ +[0-9.]+ +[0-9.]+ "
        expect_match "$key in the end" out "^  $key +[^ ]+( \(was [^ ]+\))?$"
    done
    expect_match 'prompt' out '^A prompt of 300 tokens joins 1 request decoding'
    for key in 0.25 0.5 0.75; do
        expect_match "share $key" out \
            "^runtime.prefill_share +$key +([0-9.]+ +[0-9.]+ +[0-9.]+ |not possible: not done after)"
    done
    expect_match 'file' out '^Written to tuned.json$'
    expect_match 'keys of the file' tuned.json '"lsh_K":'$'\t''9,'
    expect_match 'keys of flags' tuned.json '"batch":'$'\t''2'
    expect_match 'tuned keys' tuned.json '"scheduler":'$'\t''"[a-z-]+"'
    expect_match 'tuned keys' tuned.json '"prefill_share":'$'\t''0\.[257]+'
    run --config tuned.json --prompt Hello
    expect_status 0
    expect_match 'generate with it' err '^  generated +3 tokens'

    # Measured already: the same table, without a measurement more.
    run "${arguments[@]}" --resume
    expect_status 0
    expect 'resumed: stdout' "$(<out)" "$(<first)"
    expect 'resumed: state' "$(<tuned.json.state)" "$(<state)"

    expect_refusal 2 'tuned.json: exists and is not empty; add --resume' "${arguments[@]}"
    expect_refusal 2 'tuned.json.state: measured with lsh_L: found 150, expected 75' \
        "${arguments[@]}" --resume --lsh-l 75
    expect_refusal 2 'tuned.json.state: measured with context: found 300, expected 200' \
        "${arguments[@]}" --resume --context 200
}

case_tune_usage() {
    local arguments=(tune --model "$demo" --context 300)
    expect_refusal 2 'tune needs --output FILE' "${arguments[@]}"
    expect_refusal 2 'tune needs --context N' tune --model "$demo" --output tuned.json
    expect_refusal 2 'tune needs either --shape NAME or --model DIR' \
        tune --context 300 --output tuned.json
    expect_refusal 2 '--output: absent/tuned.json: cannot open for writing' \
        "${arguments[@]}" --output absent/tuned.json
    echo '{}' >config.json
    expect_refusal 2 'found the file of --config, config.json, expected another' \
        "${arguments[@]}" --config config.json --output config.json
    expect_refusal 2 '70000 tokens, the model has 65536' \
        tune --model "$demo" --context 70000 --output tuned.json
    expect_refusal 2 'tune has no option --calibration' "${arguments[@]}" --calibration off
    echo '{"trace": {"file": "trace.json"}}' >config.json
    run "${arguments[@]}" --config config.json --output tuned.json
    expect_status 2
    expect_match 'trace' err 'trace.file: found trace.json, expected none'
    [[ ! -e tuned.json ]] || fail 'after refusals' 'tuned.json' 'no file'
}
