# Cases of prompts that begin alike: read once, and kept for later runs.
# shellcheck shell=bash
# shellcheck disable=SC2154  # variables of cli_test.sh and lib.sh

write_questions() { # write_questions FILE: six of some 700 tokens, about one document, each with its answer
    "$source_dir/scripts/make-needle.sh" -b 1800 -s 5 >needle.json
    local marks=(hollow-compass yellow-lantern quiet-harbor hollow-compass yellow-lantern quiet-harbor)
    local numbers=(7395612 5550123 8080808 7395612 5550123 8080808) i
    local hidden='One of the special magic numbers for'
    for i in 0 1 2 3 4 5; do
        sed -e "s/\. /. $hidden yellow-lantern is: 5550123. /10" \
            -e "s/\. /. $hidden quiet-harbor is: 8080808. /16" \
            -e "s/hollow-compass mentioned/${marks[i]} mentioned/g" \
            -e "s/\"index\": 0/\"index\": $i/" \
            -e "s/\"outputs\": \[\"7395612\"\]/\"outputs\": [\"${numbers[i]}\"]/" \
            needle.json
    done >"$1"
}

cached() { # cached FILE: of each record, in one line
    grep -oE '"cached_tokens": ?[0-9]+' "$1" | grep -oE '[0-9]+' | tr '\n' ' '
}

# One document and six questions: read once, whatever the method, and the answers are those that a
# reading of its own for each gives.
case_prefixes() {
    local method counts
    write_questions questions.jsonl
    for method in full pps quest topk magicpig; do
        rm -f answers.jsonl
        local flags=(--config "$source_dir/configs/magicpig_config.json" --attention "$method"
            --input questions.jsonl --devices cpu --gen-len 12)
        [[ $method != quest && $method != topk ]] || flags+=(--attention-budget 0.3)
        [[ $method != pps ]] || flags+=(--attention-samples 200)
        generate "${flags[@]}" --output answers.jsonl
        expect_status 0
        counts=$(cached answers.jsonl)
        [[ $counts =~ ^0\ ([0-9]{3}\ ){5}$ ]] || fail "$method: tokens known" "$counts" '0, then hundreds'
        expect_match "$method: summary" err 'tokens, of which [0-9]+ read, the others shared'
        expect_match "$method: answers" err 'answers +6.0 of 6'
    done
    generate "${flags[@]}" --prefix-cache 0 --output alone.jsonl
    expect_status 0
    expect 'nothing is shared' "$(cached alone.jsonl)" '0 0 0 0 0 0 '
    expect_match 'answers' err 'answers +6.0 of 6'
    # Together they share what the first one still uses, though nothing is kept for it.
    for method in magicpig pps; do
        rm -f answers.jsonl
        generate --config "$source_dir/configs/${method}_config.json" --input questions.jsonl \
            --devices cpu --gen-len 12 --batch 3 --prefix-cache 1 --output answers.jsonl
        expect_status 0
        expect_match "$method: answers of three at a time" err 'answers +6.0 of 6'
        counts=$(cached answers.jsonl | tr ' ' '\n' | grep -c '^0$')
        ((counts < 6)) || fail "$method: read anew of six" "$counts" 'less'
    done
    generate --input questions.jsonl --devices cpu --gen-len 4 --attention streaming --prefix-cache 1GiB
    expect_status 0
    expect_match 'streaming' err 'runtime.prefix_cache .* no effect: streaming drops tokens'
    run plan --model "$demo" --context 4000 --devices cpu --prefix-cache 1GiB
    expect_match 'plan' out 'KV of past prompts +1024.0 MiB'
}

# A later run goes on from the file; one that is damaged is named, and the prompt is read anew.
case_prefix_files() {
    local file
    write_questions questions.jsonl
    head -1 questions.jsonl >first.jsonl
    sed -n 2p questions.jsonl >second.jsonl
    local flags=(--config "$source_dir/configs/pps_config.json" --devices cpu --gen-len 12 --kv-dir kept)
    generate "${flags[@]}" --input first.jsonl --output a.jsonl
    expect_status 0
    expect 'first run' "$(cached a.jsonl)" '0 '
    expect 'files' "$(ls kept | wc -l)" 1
    generate "${flags[@]}" --input second.jsonl --output b.jsonl
    expect_status 0
    [[ $(cached b.jsonl) =~ ^[0-9]{3}\ $ ]] || fail 'second run' "$(cached b.jsonl)" 'hundreds'
    expect_match 'second run' err 'answers +1.0 of 1'

    # Another method's: nothing to it.
    generate "${flags[@]}" --attention topk --input second.jsonl --output c.jsonl
    expect 'another method' "$(cached c.jsonl)" '0 '
    expect_match 'another method' err 'kept/[0-9a-f]+\.kv: settings: found .*; not used'
    expect 'a file for each' "$(ls kept | wc -l)" 2
    rm -r kept

    generate "${flags[@]}" --input first.jsonl
    file=$(echo kept/*.kv)
    printf 'x' | dd of="$file" bs=1 seek=1000000 conv=notrunc 2>dd_said
    generate "${flags[@]}" --input second.jsonl --output d.jsonl
    expect_status 0
    expect 'a damaged file' "$(cached d.jsonl)" '0 '
    expect_match 'a damaged file' err "$file: layers\.[0-9]+\.[a-z0-9.]+: its checksum is wrong; the prompt is read anew"
    expect_match 'a damaged file' err 'answers +1.0 of 1'
    for file in kept/*.kv; do
        truncate -s 500000 "$file"
    done
    generate "${flags[@]}" --input first.jsonl --output e.jsonl
    expect_match 'a file that is cut off' err 'kept/[0-9a-f]+\.kv: found 500000 bytes, expected [0-9]+ as its header says; not used'
    expect 'a file that is cut off' "$(cached e.jsonl)" '0 '

    expect_refusal 1 'first.jsonl' generate --model "$demo" --prompt a --devices cpu --kv-dir first.jsonl/x
}

# A server answers the second question about a document, and the next turn of a chat, from what it
# has read, and says so.
case_prefix_serve() {
    local document question body
    document=$(story 3 200)
    serve --context 4096 --devices cpu --kv-dir kept
    question() { # question TEXT: leaves body
        expect_get 200 '"finish_reason":"length"' /v1/completions \
            -d "{\"prompt\": \"$document$1\", \"max_tokens\": 4, \"temperature\": 0, \"ignore_eos\": true}"
    }
    question 'Who hid the clock?'
    expect_match 'the first question' body '"cached_tokens":0'
    question 'Who painted the barrel?'
    expect_match 'the second question' body '"cached_tokens":[0-9]{4}'
    expect_get 200 '^vllm:prefix_cache_hits_total\{model_name="demo"\} [0-9]{4}$' /metrics
    local first="{\"role\": \"user\", \"content\": \"$document\"}"
    local chat='"max_tokens": 4, "temperature": 0'
    expect_get 200 '"cached_tokens":0' /v1/chat/completions -d "{\"messages\": [$first], $chat}"
    expect_get 200 '"cached_tokens":[0-9]{4}' /v1/chat/completions -d "{\"messages\": [$first,
        {\"role\": \"assistant\", \"content\": \"The baker.\"}, {\"role\": \"user\", \"content\": \"Why?\"}], $chat}"
    end_server

    serve --context 4096 --devices cpu --kv-dir kept
    question 'Who sold the map?'
    expect_match 'after a restart' body '"cached_tokens":[0-9]{4}'
    end_server

    # What another process reads while the server runs is found, too.
    serve --context 4096 --devices cpu --kv-dir kept
    document=$(story 4 200)
    "$binary" --model "$demo" --prompt "${document}Who lost the key?" --gen-len 4 --devices cpu --kv-dir kept \
        >out2 2>err2 || fail 'another process' "$(tail -c 500 err2)" 'an answer'
    question 'Who found the key?'
    expect_match 'what another process has read' body '"cached_tokens":[0-9]{4}'
    end_server
    document=$(story 3 200)

    # The file is loaded while another request decodes.
    serve --context 4096 --devices cpu --kv-dir kept --batch 2
    curl -sN -m 120 "$url/v1/completions" -d '{"prompt": "Once", "max_tokens": 4000, "ignore_eos": true,
        "stream": true}' >stream &
    local stream=$!
    wait_for stream '"text"'
    question 'Who found the map?'
    expect_match 'beside another request' body '"cached_tokens":[0-9]{4}'
    kill "$stream"
    end_server
}
