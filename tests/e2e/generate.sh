# Cases of the verb generate.
# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # variables of cli_test.sh and lib.sh

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

# With a window as long as the prompt it attends to all of it, and answers; with the usual one to
# next to nothing, and keeps nothing else.
case_streaming() {
    demo_1k --attention streaming --device-budget 2000 --window-size 1990
    cp out all
    demo_1k --attention full
    expect 'all in the window' "$(<all)" "$(<out)"
    run --config "$source_dir/configs/magicpig_config.json" --attention streaming \
        --input needle.json --cache-layers none
    expect_status 0
    expect_match sampled err '^  sampled +0\.00 % of the offloaded tokens in the mean'
    expect_match answers err '^  answers +0\.0 of 1 '
    run plan --model "$demo" --attention streaming --context 30000
    expect_status 0
    expect_lines 'nothing offloaded' out '^  offloaded KV +0\.0 MiB$' 1
    expect_lines 'no hash tables' out 'hash' 0
    expect_refusal 2 '--lsh-k does not act for attention streaming' \
        --model "$demo" --attention streaming --lsh-k 4 --prompt x
}

sampled_within() { # sampled_within LOW HIGH: percent of the offloaded tokens in the mean, of the last run
    local found
    found=$(sed -n 's/^  sampled *\([0-9.]*\) % of the offloaded tokens.*/\1/p' err)
    awk -v x="$found" -v low="$1" -v high="$2" 'BEGIN { exit !(x >= low && x <= high) }' ||
        fail "$command: sampled" "$found %" "$1 % to $2 %"
}

# The demo with a part of the tokens and, as with full attention, with all of them: every token is then
# selected, or what is drawn is enough.
method_answers() { # method_answers METHOD BUDGET LOW HIGH [ARGUMENT...]
    local method=$1 budget=$2 low=$3 high=$4
    shift 4
    demo_1k --attention full
    cp out all
    demo_1k --attention "$method" --attention-budget 1 "$@"
    expect "$method, all tokens" "$(<out)" "$(<all)"
    demo_1k --attention "$method" --attention-budget "$budget" "$@"
    sampled_within "$low" "$high"
    cp out some
    demo_1k --attention "$method" --attention-budget "$budget" --isa avx2 "$@"
    expect "$method, AVX2" "$(<out)" "$(<some)"
    expect_refusal 2 "--lsh-k does not act for attention $method" \
        --model "$demo" --attention "$method" --lsh-k 4 --prompt x
    expect_refusal 2 'attention.budget: expected a share .* or a whole number .*, found 1.5' \
        --model "$demo" --attention "$method" --attention-budget 1.5 --prompt x
}

case_quest() {
    method_answers quest 0.2 19.5 20.5
    demo_1k --attention quest --attention-budget 300 --page-size 4
    run plan --model "$demo" --devices cpu --attention quest --context 16068
    expect_status 0
    # 1000 pages of 2 KV heads of 64 channels, least and largest, in 7 layers.
    expect_lines 'bounds' out '^  page bounds +3\.4 MiB$' 1
    # 8 heads: 335 tokens of 4 bytes, and 1008 scores.
    expect_lines 'room' out '^  selected ids +0\.0 MiB$' 1
}

case_topk() {
    method_answers topk 0.02 1.95 2.05
    demo_1k --attention topk --attention-budget 100
    run bench decode --model "$demo" --devices cpu --attention topk --context 3000 --steps 2 --warmup 0
    expect_status 0
    expect_match 'attention' out '^  attention +sampled in 7 of 8 layers, topk, budget 2 %$'
    expect_refusal 2 '--page-size does not act for attention topk' \
        --model "$demo" --attention topk --page-size 4 --prompt x
}

# Tokens that are drawn again are not selected again.
case_oracle() {
    method_answers oracle 0.05 0.5 5
    demo_1k --attention oracle --attention-budget 0.05 --lsh-seed 7
}

# As many tokens for any length, or all there are; the same ones with any kernels.
case_pps() {
    local isa
    demo_1k --attention full
    cp out all
    demo_1k --attention pps --attention-samples 100000
    expect 'all tokens' "$(<out)" "$(<all)"
    sampled_within 100 100
    demo_1k --attention pps --attention-samples 256 --code-bits 4
    sampled_within 22 23
    demo_1k --attention pps
    cp out some
    demo_1k --attention pps --isa avx2
    expect "pps, AVX2" "$(<out)" "$(<some)"
    demo_1k --attention pps --cpu-workers 2 --sched dmda
    expect 'pps, two workers' "$(<out)" "$(<some)"
    run plan --model "$demo" --devices cpu --attention pps --context 32068
    expect_status 0
    # 32000 tokens of 2 KV heads in 7 layers: 64 channels of 2 bits, and a factor.
    expect_lines 'codes' out '^  codes of keys +8\.5 MiB$' 1
    expect_refusal 2 'attention.code_bits: expected 1, 2 or 4, found 3' \
        --model "$demo" --attention pps --code-bits 3 --prompt x
    expect_refusal 2 '--attention-budget does not act for attention pps' \
        --model "$demo" --attention pps --attention-budget 0.1 --prompt x
}

# Threads that wait for each other sleep soon, unless the user says otherwise (core/machine/waiting.h).
case_spinning() {
    local wanted found
    mkfifo fifo
    for wanted in 10000 77; do
        if [[ $wanted == 77 ]]; then export GOMP_SPINCOUNT=77; else unset GOMP_SPINCOUNT; fi
        "$binary" tokenize --model "$demo" <fifo >/dev/null &
        exec 9>fifo
        for _ in {1..100}; do
            found=$(tr '\0' '\n' <"/proc/$!/environ" | sed -n 's/^GOMP_SPINCOUNT=//p')
            [[ $found == "$wanted" ]] && break
            sleep 0.05
        done
        exec 9>&-
        wait $!
        expect 'GOMP_SPINCOUNT' "$found" "$wanted"
    done
}

# Generated tokens that leave the static cache, any number at a time: of all of them the text is that
# of full attention.
case_growth() {
    local budget arguments=(--prompt 'The old baker sold the' --gen-len 90 --eos none --devices cpu)
    generate "${arguments[@]}" --attention full
    expect_status 0
    cp out all
    for budget in 1 7 16; do
        generate "${arguments[@]}" --attention pps --attention-samples 1000 --device-budget 12 \
            --window-size 8 --generation-budget "$budget"
        expect_status 0
        expect "budget $budget" "$(<out)" "$(<all)"
        sampled_within 100 100
    done
    generate "${arguments[@]}" --attention pps --kv-dtype int8 --device-budget 12 --window-size 8 \
        --generation-budget 16
    expect_status 0
    cp out int8
    generate "${arguments[@]}" --attention pps --kv-dtype int8 --device-budget 12 --window-size 8 \
        --generation-budget 16 --cpu-workers 2
    expect 'two workers' "$(<out)" "$(<int8)"
    # Not beyond the model's positions.
    run plan --model "$demo" --devices cpu --attention pps --context 60068 --gen-len 1000000000
    expect_status 0
    expect_lines 'positions' out '^  offloaded KV +223\.0 MiB$' 1
    # What grows old is sampled from: there is no cache of 40,000 tokens, but twice the budget, once
    # of it for what follows a prefix that is shared.
    run plan --model "$demo" --devices cpu --attention pps --context 3068 --gen-len 40257
    expect_status 0
    expect_lines 'room' out '^  offloaded KV +147\.2 MiB$' 1
    expect_lines 'bounded' out '^  static caches \(sink, window, generated\) +2\.0 MiB$' 1
}

# Rows of 8 bits, by every method that keeps rows; a plan has room for them.
case_int8_rows() {
    local method
    for method in magicpig quest topk oracle pps; do
        demo_1k --attention "$method" --kv-dtype int8
    done
    run bench decode --model "$demo" --devices cpu --attention pps --kv-dtype int8 --context 3000 \
        --steps 2 --warmup 0
    expect_status 0
    expect_match 'attention' out '^  attention +sampled in 7 of 8 layers, pps, .*, int8 rows$'
    run plan --model "$demo" --devices cpu --attention pps --kv-dtype int8 --context 32068
    expect_status 0
    # 32000 tokens of 2 KV heads in 7 layers: 64 channels and a scale, of keys and of values.
    expect_lines 'rows' out '^  offloaded KV +58\.1 MiB$' 1
    expect_refusal 2 '--kv-dtype does not act for attention full' \
        --model "$demo" --attention full --kv-dtype int8 --prompt x
    expect_refusal 2 '--kv-dtype: expected one of bf16|int8, found "int4"' \
        --model "$demo" --attention pps --kv-dtype int4 --prompt x
}

case_presets() {
    local preset count=0
    make_needle
    for preset in "$source_dir"/configs/*_config.json "$source_dir"/configs/original/*.json; do
        run --config "$preset" --input needle.json
        expect_status 0
        expect_match "$preset" err '^  answers +1\.0 of 1 '
        count=$((count + 1))
    done
    expect 'presets' "$count" 11
}

# Nothing of a prompt stays in the static cache of a sparse layer; prompts of one token and of more.
case_nothing_static() {
    local method isa arguments=(--input records.jsonl --gen-len 6 --eos none --batch 3)
    printf '{"input": ""}\n{"input": "Hello world"}\n{"input": "%s"}\n' "$(story 5 12)" >records.jsonl
    generate "${arguments[@]}" --attention full --devices cpu
    expect_status 0
    cp out all
    arguments+=(--device-budget 0 --window-size 0 --cache-layers none)
    for isa in ref avx2 auto; do
        for method in quest topk; do
            generate "${arguments[@]}" --attention "$method" --attention-budget 1 --isa "$isa" \
                --devices cpu
            expect_status 0
            expect "$method, $isa: all tokens selected" "$(<out)" "$(<all)"
            sampled_within 100 100
        done
        for method in magicpig quest topk oracle pps streaming; do
            generate "${arguments[@]}" --attention "$method" --isa "$isa"
            expect_status 0
            expect_match "$method, $isa" err '^  prompts +3 requests, '
            expect_match "$method, $isa" err '^  generated +18 tokens'
        done
    done
    for method in magicpig quest topk oracle pps; do
        demo_1k --attention "$method" --device-budget 0 --window-size 0
    done
}

case_demo_4k() {
    demo_4k
    expect_match model err '^magicpig-pipe: llama, 8 layers'
    expect_match kernels err 'StarPU .*workers? with [0-9]+ threads.*; kernels: (ref|avx2|avx512( with AMX)?)$'
    expect_match cores err '^magicpig-pipe: cpu worker 0: cores? 0(-[0-9]+)?(;|$)'
    expect_match prompts err '^  prompts +1 request, [0-9]+ tokens in .* s: [0-9]+ tokens/s$'
    expect_match 'first token' err '^  first token +[0-9.]+ s$'
    expect_match decode err '^  generated +[0-9]+ tokens; decode [0-9.]+ ms a step, [0-9.]+ tokens/s$'
    expect_match sampled err \
        '^  sampled +[0-9.]+ % of the offloaded tokens in the mean; per layer: all( [0-9.]+){7}$'
    expect_match memory err '^  memory +peak [0-9]+ MiB, planned [0-9]+ MiB$'
    expect_match answers err '^  answers +1\.0 of 1 '
    demo_4k --quiet
    expect_lines '--quiet' err '^  ' 0
}

schedulers() { # schedulers WORKERS
    local scheduler
    for scheduler in eager lws prio dmda; do
        demo_1k --cpu-workers "$1" --sched "$scheduler"
        expect_match "$command" err "StarPU [0-9.]+, $scheduler, $1 CPU worker"
    done
}

case_one_worker() { schedulers 1; }

case_two_workers() {
    (($(nproc) > 1)) || exit 77
    schedulers 2
}

# A machine with a second node that is not there: its worker's memory cannot be bound, which is said
# once and changes nothing else.
case_two_nodes() {
    [[ $(sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' /proc/self/status) == 0[-,]1* ]] || exit 77
    unset HWLOC_COMPONENTS # would go before the machine
    export HWLOC_SYNTHETIC='numa:2(indexes=0,63) core:1 pu:1' HWLOC_THISSYSTEM=1
    run bench decode --model "$demo" --devices cpu --context 16384 --steps 2 --warmup 1
    expect_status 0
    expect_match 'nodes' err '2 CPU workers with 2 threads in all \(2 NUMA nodes, 2 cores\)'
    expect_lines 'warnings' err \
        '^magicpig-pipe: warning: [0-9]+ bytes could not be bound to NUMA node (0|63): ' 1
    expect_match 'shares' out '^  CPU  sampled_attention +14\.0 '
}

# Settings that must not change an answer, and seeds.
case_settings() {
    demo_1k --chunk-size 300 --generation-budget 1 --threads 1
    expect_match 'one thread' err '^magicpig-pipe: cpu worker 0: core 0(;|$)'
    demo_1k --binding none
    expect_match 'no binding' err \
        '^magicpig-pipe: cpu worker 0: [0-9]+ threads?;.* no thread is bound$'
    demo_1k --lsh-k 0
    expect_match 'full attention' err '^  sampled +nothing: every layer attended to all tokens$'
    local text seed
    text=$(story 5 60)
    generate --prompt "$text" --gen-len 8 --eos none
    cp out flash
    generate --prompt "$text" --gen-len 8 --eos none --mem-efficient 0
    expect_status 0
    expect 'plain reference prefill' "$(<out)" "$(<flash)"
    for seed in 1 1 2; do
        generate --prompt Hello --gen-len 12 --eos none --temperature 1 --seed "$seed"
        expect_status 0
        [[ ! -e "seed$seed" ]] || expect 'the same seed again' "$(<out)" "$(<"seed$seed")"
        cp out "seed$seed"
    done
    ! cmp -s seed1 seed2 || fail 'another seed' "$(<seed2)" 'another text'
}

case_original_prompt() {
    local input=$source_dir/../shared/data/data4k.jsonl
    [[ -e $input ]] || exit 77
    run --config "$source_dir/configs/magicpig_config.json" --input "$input"
    expect_status 0
    expect "$command: stdout" "$(<out)" ': 8090293.'
}

# ---- records ----

case_records() {
    cat >records.jsonl <<'END'
{"id": "text", "input": "Hello world", "max_new_tokens": 4}
{"id": "number", "input": 5}
{"index": 7, "input_ids": [4091, 39, 762, 78, 1807], "max_new_tokens": 4}

{"id": "cut", "input": "abc
{"id": "foreign", "input_ids": [99999]}
{"id": "", "input": "", "max_new_tokens": 2}
END
    generate --input records.jsonl --output answers.jsonl --eos none
    expect_status 1
    expect_match 'wrong type' err 'record number: records.jsonl:2: input: expected a string, found 5'
    expect_match 'cut record' err 'records.jsonl:5:'
    expect_match 'id out of range' err 'record foreign: .*6.* 99999, expected 0 to 4095'
    expect_lines 'failures' err '^magicpig-pipe: error: record' 3
    expect_match summary err '^  prompts +3 requests'
    expect_lines 'text' answers.jsonl '^\{"id":"text".*"generated_tokens":4,' 1
    # The same prompt as text and as ids.
    expect '"input" and "input_ids"' "$(sed -n 2p out)" "$(sed -n 1p out)"
    expect_lines 'index as id' answers.jsonl '^\{"id":"7".*"prompt_tokens":5,' 1
    expect_lines 'empty prompt' answers.jsonl '"prompt_tokens":1,"generated_tokens":2,' 1
    expect_lines 'broken records' answers.jsonl '^\{"id":"[^"]*","error":"[^"]' 3
}

# What a record may say of its own answer, as to other programs; what nothing serves is an error.
case_record_keys() {
    cat >records.jsonl <<'END'
{"id": "plain", "input": "Hello", "max_tokens": 12}
{"id": "stop", "input": "Hello", "max_tokens": 12, "stop": ["hi"], "temperature": 0}
{"id": "one", "input": "Hello", "max_new_tokens": 12, "stop": " hi"}
{"id": "drawn", "input": "Hello", "max_tokens": 12, "temperature": 1.5, "top_p": 0.9, "seed": 3}
{"id": "again", "input": "Hello", "max_tokens": 12, "temperature": 1.5, "top_p": 0.9, "seed": 3}
{"id": "other", "input": "Hello", "max_tokens": 12, "temperature": 1.5, "top_p": 0.9, "seed": 4}
{"id": "greedy", "input": "Hello", "max_tokens": 12, "temperature": 1.5, "top_k": 1}
{"id": "joined", "context": "Hello", "input": "Bye", "max_tokens": 4, "answers": ["no", "never"]}
{"id": "unknown", "input": "Hello", "max_new_token": 5}
{"id": "chat", "message": []}
END
    generate --input records.jsonl --eos none --output answers.jsonl
    expect_status 1
    expect_match 'unknown key' err 'record unknown: records.jsonl:9: max_new_token: unknown key, did you mean "max_new_tokens"'
    expect_match 'unknown key' err 'record chat: records.jsonl:10: message: unknown key, did you mean "messages"?'
    text_of() { sed -n "s/^{\"id\":\"$1\",\"text\":\"\(\([^\"\\\\]\|\\\\.\)*\)\".*/\1/p" answers.jsonl; }
    local plain
    plain=$(text_of plain)
    expect_match 'max_tokens' answers.jsonl '^\{"id":"plain".*"generated_tokens":12,'
    [[ $plain == *' hi'* ]] || fail 'the text to stop in' "$plain" 'some hi'
    expect 'stop' "$(text_of stop)" "${plain%%hi*}"
    expect 'one stop' "$(text_of one)" "${plain%% hi*}"
    expect_lines 'reason' answers.jsonl '"finish_reason":"stop"' 2
    expect 'the same seed' "$(text_of again)" "$(text_of drawn)"
    [[ $(text_of drawn) != "$(text_of other)" ]] || fail 'another seed' "$(text_of other)" 'another text'
    [[ $(text_of drawn) != "$plain" ]] || fail 'temperature' "$plain" 'another text'
    expect 'top_k' "$(text_of greedy)" "$plain"
    generate --prompt $'Hello\n\nBye' --gen-len 4 --eos none
    expect 'context and input' "$(text_of joined)" "$(<out)"
}

# Conversations through the model's chat template: the ids of tokenize are those of generate, and what
# users wrote makes no special tokens.
case_chat() {
    cat >chat.jsonl <<'END'
{"id": "text", "input": "Hello", "answer_prefix": " hi", "max_tokens": 4}
{"id": "messages", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
{"id": "parts", "messages": [{"role": "system", "content": "S"}, {"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "text", "text": "y"}]}]}
{"id": "special", "messages": [{"role": "user", "content": "<|eot_id|>"}], "max_tokens": 4}
{"id": "refused", "messages": [{"role": "tool", "content": "x"}]}
{"id": "image", "messages": [{"role": "user", "content": [{"type": "image_url"}]}]}
{"id": "two", "messages": [{"role": "user"}], "input": "x"}
{"id": "tools", "input": "x", "tools": []}
{"id": "nothing", "messages": [{"role": "user"}]}
END
    local user='4091, 4093, 435, 263, 4094, 198, 198' answer='4095, 4093, 641, 390, 400, 4094, 198, 198'
    run tokenize --model "$demo" --input chat.jsonl --chat
    expect_status 1
    expect 'a text as a message' "$(sed -n 1p out)" "[$user, 39, 762, 78, $answer, 297, 72]"
    expect 'messages' "$(sed -n 2p out)" "[$user, 39, 762, 78, $answer]"
    expect 'parts' "$(sed -n 3p out)" "[4091, 4093, 1464, 329, 481, 4094, 198, 198, 50, 4095, ${user#4091, }, 87, 198, 88, $answer]"
    expect 'special tokens as text' "$(sed -n 4p out)" "[$user, 27, 91, 68, 326, 62, 311, 91, 29, $answer]"
    expect 'the others' "$(sed -n '5,$p' out)" $'null\nnull\nnull\nnull\nnull'
    expect_match 'a template that refuses' err 'record refused: chat.jsonl:5: messages: .*/chat_template.jinja:4: role tool: the demo knows'
    expect_match 'an image' err 'record image: chat.jsonl:6: messages\[0\].content\[0\].type: found "image_url", expected "text"'
    expect_match 'two prompts' err 'record two: chat.jsonl:7: input: found beside "messages"$'
    expect_match 'tools' err 'record tools: chat.jsonl:8: tools: found without "messages"$'
    expect_match 'no content' err 'record nothing: chat.jsonl:9: messages\[0\]: no content$'
    run tokenize --model "$demo" --input chat.jsonl --parse-special
    expect 'special tokens found' "$(sed -n 4p out)" "[$user, 4095, $answer]"
    expect 'a text alone' "$(sed -n 1p out)" '[4091, 39, 762, 78, 297, 72]'

    head -n 2 chat.jsonl >two.jsonl
    generate --input two.jsonl --chat --eos none --output answers.jsonl
    expect_status 0
    expect_lines 'a text' answers.jsonl '"id":"text".*"prompt_tokens":20,"generated_tokens":4' 1
    expect_lines 'messages' answers.jsonl '"id":"messages".*"prompt_tokens":18,"generated_tokens":4' 1
    printf 'Hello' >text
    run tokenize --model "$demo" --chat <text
    expect 'stdin' "$(<out)" "[$user, 39, 762, 78, $answer]"
    printf '["Hello", "<|eot_id|>"]' >texts.json
    run tokenize --model "$demo" --json texts.json --no-parse-special
    expect 'texts' "$(<out)" $'[4091, 39, 762, 78]\n[4091, 27, 91, 68, 326, 62, 311, 91, 29]'
    expect_refusal 2 'give --parse-special or --no-parse-special, not both' tokenize --model "$demo" \
        --parse-special --no-parse-special
    expect_refusal 2 'no-special does not act with --chat' tokenize --model "$demo" --chat --no-special
    expect_refusal 2 'input takes neither --json nor --no-special' tokenize --model "$demo" --input two.jsonl \
        --json texts.json

    mkdir bare
    ln -s "$demo"/*.json "$demo"/*.safetensors bare/
    expect_refusal 1 'bare: found no chat template, expected chat_template.jinja, or' --model bare \
        --prompt x --chat
    expect_refusal 1 'bare: found no chat template' --model bare --input two.jsonl
}

# OpenAI's batch lines: answers in the records' order, also of those that cannot run, whichever ends first.
case_openai_batch() {
    cat >batch.jsonl <<'END'
{"custom_id": "url", "method": "POST", "url": "/v1/embeddings", "body": {}}
{"custom_id": "long", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "demo", "messages": [{"role": "user", "content": "Hello"}], "max_completion_tokens": 12}}
{"custom_id": "short", "method": "POST", "url": "/v1/completions", "body": {"prompt": "Hello", "max_tokens": 3, "stream": false}}
{"custom_id": "role", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": [{"role": "tool", "content": "x"}]}}
{"custom_id": "n", "method": "POST", "url": "/v1/chat/completions", "body": {"n": 2, "messages": []}}
{"custom_id": "key", "method": "POST", "url": "/v1/chat/completions", "body": {"logit_bias": {}, "messages": []}}
{"id": "other", "input": "x"}
{"custom_id": "tools", "method": "POST", "url": "/v1/completions", "body": {"prompt": "Hello", "tools": [{}]}}
{"custom_id": "last", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}}
END
    generate --input batch.jsonl --eos none --batch 3 --output answers.jsonl
    expect_status 1
    expect 'order' "$(sed 's/.*"custom_id":"\([a-z]*\)".*/\1/' answers.jsonl | paste -sd ' ')" \
        'url long short role n key other tools last'
    failure() { # failure LINE MESSAGE
        expect_match "line $1" <(sed -n "$1p" answers.jsonl) \
            "^\{\"id\":\"batch_req_[0-9a-f]{16}\",.*\"status_code\":400,.*\"body\":null\},\"error\":\{\"message\":\"batch.jsonl:$1: $2"
    }
    failure 1 'url: found \\"/v1/embeddings\\"'
    failure 4 'body: messages: .*/chat_template.jinja:4: role tool: '
    failure 5 'body: n: expected an integer from 1 to 1, found 2'
    failure 6 'body: logit_bias: unknown key'
    failure 7 'found no \\"custom_id\\", which other lines have'
    failure 8 'body: tools: does not go with this url'
    expect_match 'a chat' <(sed -n 2p answers.jsonl) \
        '"custom_id":"long","response":\{"status_code":200,"request_id":"req_[0-9a-f]{16}","body":\{"id":"chatcmpl-[0-9a-f]{16}","object":"chat.completion","created":[0-9]+,"model":"demo","choices":\[\{"index":0,"message":\{"role":"assistant","content":"[^"]+"\},"logprobs":null,"finish_reason":"length"\}\],"usage":\{"prompt_tokens":18,"completion_tokens":12,"total_tokens":30,"prompt_tokens_details":\{"cached_tokens":0\}\}\}\},"error":null\}$'
    expect_match 'a completion' <(sed -n 3p answers.jsonl) \
        '"object":"text_completion",.*"choices":\[\{"index":0,"text":"[^"]+","logprobs":null,.*"prompt_tokens":4,'
    expect_refusal 2 'resume does not act for lines with a "custom_id"' --model "$demo" --input batch.jsonl \
        --output answers.jsonl --resume
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

# Token ids need no tokenizer: the answer is ids then.
case_no_tokenizer() {
    make_model model tokenizer.json
    printf '{"id": "a", "input_ids": [4091, 39, 762], "outputs": ["x"]}\n' >records.jsonl
    generate --input records.jsonl --gen-len 3 --eos none --output with.jsonl
    expect_status 0
    run --model model --input records.jsonl --gen-len 3 --eos none --output without.jsonl
    expect_status 0
    expect 'token ids' "$(grep -o '"token_ids":[^]]*' without.jsonl)" "$(grep -o '"token_ids":[^]]*' with.jsonl)"
    expect_lines 'no text' without.jsonl '"text":null,.*"score":null,' 1
    expect 'stdout' "$(<out)" "$(sed 's/.*"token_ids":\[\([^]]*\).*/\1/; s/,/ /g' with.jsonl)"
    expect_refusal 1 'model/tokenizer.json' --model model --prompt Hello
    printf '{"id": "a", "input_ids": [5], "stop": "x"}\n' >stop.jsonl
    expect_refusal 1 'model/tokenizer.json' --model model --input stop.jsonl
}

case_record_forms() {
    local form
    printf '{"input": "Hello"}' >object
    printf '[{"input": "Hello"}]' >array
    printf '\n{"input": "Hello"}\n\n' >lines
    printf '{\n  "input":\n    "Hello"\n}\n' >spread
    generate --prompt Hello --gen-len 4 --eos none
    expect_status 0
    expect_lines 'an answer' out . 1
    cp out expected
    for form in object array lines spread; do
        generate --input "$form" --gen-len 4 --eos none
        expect_status 0
        expect "$command: stdout" "$(<out)" "$(<expected)"
        generate --input - --gen-len 4 --eos none <"$form"
        expect_status 0
        expect "$form through stdin" "$(<out)" "$(<expected)"
    done
    generate --prompt '' --gen-len 2 --eos none
    expect_status 0
    expect_match 'empty prompt' err '^  prompts +1 request, 1 token'
}

case_too_long() {
    awk 'BEGIN {
        printf "{\"id\": \"long\", \"input_ids\": [64"
        for (i = 1; i < 65537; i++) printf ", 64"
        print "]}\n{\"id\": \"short\", \"input\": \"Hello\"}"
    }' >records.jsonl
    generate --input records.jsonl --gen-len 2 --eos none --output answers.jsonl
    expect_status 1
    expect_match 'too long' err 'record long: records.jsonl:1: .*found 65537 tokens.* 65536 positions'
    expect finished "$(ids_of answers.jsonl)" short
    # It does not count in the plan of the run either, which is under 300 MiB without it.
    generate --input records.jsonl --gen-len 2 --eos none --memory-limit 300MiB
    expect_status 1
    expect_lines 'the short one is answered' out . 1
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

# Later records finish first; texts still come in the records' order, whatever the batch.
case_batch() {
    local i lengths=(12 3 8 2 6 1)
    for i in 0 1 2 3 4 5; do
        printf '{"id": "%d", "input": "%s", "max_new_tokens": %d}\n' "$i" \
            "$(story "$i" $((15 + 9 * i)))" "${lengths[i]}"
    done >records.jsonl
    generate --input records.jsonl --eos none --output one.jsonl --batch 1
    expect_status 0
    cp out one
    expect_lines 'answers with --batch 1' one . 6
    expect 'order with --batch 1' "$(ids_of one.jsonl)" '0 1 2 3 4 5'
    # Prompts are read at once: then three requests decode together.
    generate --input records.jsonl --eos none --output three.jsonl --batch 3 --micro-batches 2 \
        --prefill-share 1
    expect_status 0
    expect 'stdout of --batch 3' "$(<out)" "$(<one)"
    if [[ $(ids_of three.jsonl) == '0 1 2 3 4 5' ]]; then
        fail 'order of --output with --batch 3' '0 1 2 3 4 5' 'short requests before long ones'
    fi
    expect 'token ids' "$(sort three.jsonl | sed 's/,"prefill_seconds.*//')" \
        "$(sed 's/,"prefill_seconds.*//' one.jsonl)"
    # Read beside the decoding of others, chunk by chunk: the same texts.
    generate --input records.jsonl --eos none --batch 3 --prefill-share 0.3 --chunk-size 16
    expect_status 0
    cp out joined
    generate --input records.jsonl --eos none --batch 1 --chunk-size 16
    expect_status 0
    expect 'stdout of requests that join' "$(<joined)" "$(<out)"
}

# ---- --output, signals, outputs that cannot be written ----

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
        printf '{"id": "0", "input": "Hello", "max_new_tokens": 500}\n'
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

# ---- trace ----

# A short run with a trace and the options given: every op has its spans, in order on its track.
expect_trace() {
    local op sampled
    generate --prompt "$(story 3 60)" --gen-len 4 --eos none --trace trace.json "$@"
    expect_status 0
    sampled=$(sed -n 's/^  sampled  *\([0-9.]*\) %.*/\1/p' err)
    expect_json_object trace.json
    expect_lines 'one list of events' trace.json '"traceEvents":\[' 1
    for op in embed projection hashing table_build table_lookup sampled_attention static_attention \
        prefill_attention output ffn offload lm_head sample; do
        expect_match "spans of $op" trace.json "\"ph\":\"X\",\"name\":\"$op\",\"pid\":1,\"tid\":[0-9]+,"
    done
    # One sample a step, whose mean is the summary's.
    expect 'sampled' \
        "$(sed -n 's/.*"ph":"C","name":"sampled %".*"value":\([0-9.]*\)}}.*/\1/p' trace.json |
            awk '{ sum += $1 } END { printf "%d %.2f", NR, sum / NR }')" "3 $sampled"
    # A worker runs one task at a time: its spans are in order and do not overlap.
    sed -n 's/.*"ph":"X".*"tid":\([0-9]*\),"ts":\([0-9.]*\),"dur":\([0-9.]*\),.*/\1 \2 \3/p' \
        trace.json >spans
    expect 'spans out of order or over the one before' \
        "$(awk '$2 < end[$1] - 0.001 { bad++ } { end[$1] = $2 + $3 } END { print (NR > 0), bad + 0 }' spans)" \
        '1 0'
}

case_trace() {
    local workers
    workers=$(($(nproc) > 1 ? 2 : 1))
    expect_trace --devices cpu --cpu-workers "$workers"
    expect_lines 'tracks' trace.json '"thread_name".*"name":"cpu worker [0-9]+"' "$workers"
    expect_trace # with the GPU, where there is one

    # A trace that cannot be written is refused before the work.
    generate --prompt Hello --gen-len 2 --eos none --trace absent/trace.json
    expect_status 2
    expect_match 'trace' err 'error: trace.file: absent/trace.json: cannot open for writing'
}

case_fxt() {
    generate --prompt "$(story 3 60)" --gen-len 6 --eos none --fxt fxt --fxt-steps 2
    if grep -q 'without FxT' err; then
        expect_status 2
        expect_match 'no FxT' err \
            'error: trace.fxt: found fxt, but this StarPU \([0-9.]+\) was built without FxT; .*build-starpu'
        expect 'working directory' "$(echo *)" 'err out'
        return
    fi
    expect_status 0
    expect 'working directory' "$(echo *)" 'err fxt out'
    [[ -s fxt/prof_file_0 ]] || fail 'raw trace' "$(ls fxt)" 'prof_file_0, not empty'
    expect 'Paje' "$(head -n 1 fxt/paje.trace | cut -c 1-9)" '%EventDef'
    expect_match 'projection' fxt/paje.trace projection
    expect_match 'sampled_attention' fxt/paje.trace sampled_attention
    # Two decode steps and no prompt.
    expect_lines 'steps' fxt/tasks.rec '^Name: sample$' 2
    expect_lines 'prompt' fxt/tasks.rec '^Name: prefill_attention$' 0

    run bench decode --model "$demo" --context 200 --warmup 2 --steps 3 --fxt bench --fxt-steps 3
    expect_status 0
    expect_lines 'timed steps' bench/tasks.rec '^Name: sample$' 3
    expect_refusal 2 'trace.fxt: found bench with --compare' \
        bench decode --model "$demo" --context 200 --compare --fxt bench

    generate --prompt Hello --gen-len 3 --eos none --fxt short
    expect_status 0
    expect_match 'too few steps' err 'warning: trace.fxt: short: nothing recorded: found 2 decode'
    expect_refusal 2 'trace.fxt: absent/fxt: cannot create' \
        --model "$demo" --prompt Hello --fxt absent/fxt
    local long
    printf -v long '%0200d' 0
    expect_refusal 2 'trace.fxt: 0+: found a path of 200 bytes, but StarPU takes at most [0-9]+' \
        --model "$demo" --prompt Hello --fxt "$long"
    expect 'working directory' "$(echo *)" 'bench err fxt out short'
}
