# Cases of the other verbs.
# shellcheck shell=bash
# shellcheck disable=SC2154  # variables of cli_test.sh and lib.sh

# ---- plan ----

case_plan() {
    local config=$source_dir/configs/magicpig_config.json network
    run plan --devices cpu --config "$config" --context 4000
    expect_status 0
    expect_match 'weights' out '^  weights +[0-9.]+ MiB$'
    expect_match 'tables' out '^  hash tables +[0-9.]+ MiB$'
    expect_match 'fits' out '^  available +[0-9.]+ MiB \(fits\)$'
    expect 'the total is the sum' "$(awk '/MiB$/ && !/total/ { sum += $(NF - 1) }
        /  total/ { print sum - $(NF - 1) < 1 && $(NF - 1) - sum < 1 }' out)" 1
    run plan --devices cpu --config "$config" --input "$source_dir/configs/data4k.json"
    expect_status 0
    expect_match 'context of a file' out '^memory plan: 1 request of 38[0-9][0-9] tokens$'
    printf '{"input_ids": [1, 2, 3]}\n{"input": 5}\n' >some.jsonl
    run plan --devices cpu --config "$config" --input some.jsonl
    expect_status 0
    expect_match 'the others' out '^memory plan: 1 request of 3 tokens$'
    expect_match 'left out' err 'warning: left out: .*some.jsonl:2:.*found 5'
    run plan --devices cpu --config "$config" --context 60000 --batch 2 --memory-limit 100MiB
    expect_status 1
    expect_match 'does not fit' out '^  memory_limit +100\.0 MiB \(does not fit\)$'
    expect_match 'numbers' err \
        'error: memory: the plan needs [0-9.]+ GiB for 2 x 60000 tokens .* memory_limit is 100\.00 MiB'
    expect_refusal 2 '--context N or --input FILE' plan --config "$config"
    expect_refusal 2 '--context N or --input FILE' plan --config "$config" --context 9 --input some.jsonl
    expect_refusal 2 'plan has no option --sched' plan --config "$config" --context 9 --sched eager
    expect_refusal 2 '70000 tokens, the model has 65536' plan --config "$config" --context 70000
    expect_refusal 2 'chunk_size: found 1,' plan --config "$config" --context 9000 --chunk-size 1
    expect_refusal 2 '--context: found "0"' plan --config "$config" --context 0
    expect_refusal 1 'plan needs .* memory_limit is 10\.00 MiB' \
        --config "$config" --prompt Hello --memory-limit 10MiB
    expect_lines 'refused before StarPU starts' err StarPU 0
    # 7 layers: 4 heads' vectors of 64, sums and counts.
    run plan --devices cpu --config "$config" --context 4000 --ranks 2 --network 1Gbit,0.5ms
    expect_status 0
    expect_match 'ranks' out 'one of 2; a step sends 7.22 KiB in 7 layers and receives 7.22 KiB$'
    expect_match 'network' out '^network: 4.059 ms a step, of which latency 4.000 ms$'
    expect_refusal 2 'found 3 ranks, expected at most 2' plan --config "$config" --context 9 --ranks 3
    expect_refusal 2 '--network needs --ranks N' plan --config "$config" --context 9 --network 1Gbit,1ms
    for network in 1Gbit 1Gbit,1 1,1ms 0Gbit,1ms Gbit,1ms 1Gbit,1ms, nanGbit,1us; do
        expect_refusal 2 "--network: found \"$network\", expected speed and latency" \
            plan --config "$config" --context 9 --ranks 2 --network "$network"
    done
}

value_of() { # value_of KEY FILE: of the first line of JSON that has it
    sed -n "s/^[[:space:]]*\"$1\":[[:space:]]*\([0-9.e+-]*\),\{0,1\}\$/\1/p" "$2" | head -n 1
}

# What a step takes, from what steps have taken: the same work by the same rates is the same time.
case_plan_rates() {
    local method decode
    for method in magicpig quest full pps; do
        decode=(--model "$demo" --devices cpu --attention "$method" --context 3000)
        run bench decode "${decode[@]}" --warmup 2 --steps 9 --json
        expect_status 0
        cp out rates.json
        run plan "${decode[@]}" --rates rates.json --json
        expect_status 0
        cp out plan.json
        # But for the estimated error, of some steps alone, and for what is generated.
        expect "$method: predicted seconds over those measured" "$(awk -v plan="$(value_of seconds plan.json)" \
            -v step="$(value_of recorded_seconds rates.json)" 'BEGIN {
                print (plan > 0.95 * step && plan < 1.05 * step) ? "near" : plan " and " step }')" near
    done
    expect_json_object plan.json
    expect_match 'all is known' plan.json '"not_known":\s*\[\]'
    expect 'its parts' "$(awk '/_seconds":/ && !/network_seconds|received|sent/ { sum += $2 }
        /"seconds":/ { d = sum - $2; print d * d < 1e-18 }' plan.json)" 1

    # A rank has half the heads; what it is not told of, it says.
    run plan "${decode[@]}" --rates rates.json --ranks 2
    expect_status 0
    expect_match 'step' out '^step: at least [0-9.]+ ms, [0-9.]+ tokens/s, by rates of .*, kernels '
    expect_lines 'parts' out '^  (dense|selecting|rows|hand-over) +[0-9]+\.[0-9]{3} ms$' 4
    expect_match 'messages' out '^  not known: what a message takes the processes'
    expect_match 'network' out '^  not known: the network$'
    expect 'half the rows' "$(awk -v all="$(value_of rows_seconds plan.json)" '
        $1 == "rows" { half = 500 * all; print ($2 > half - 0.002 && $2 < half + 0.002) }' out)" 1
    expect_refusal 2 'rates.json: found no result of bench decode with attention magicpig' \
        plan --model "$demo" --devices cpu --context 3000 --rates rates.json
    expect_refusal 2 'rates.json: found no result of bench decode with attention pps.* and batch 2' \
        plan "${decode[@]}" --batch 2 --rates rates.json
    expect_refusal 2 '--rates: absent.json: cannot open' plan "${decode[@]}" --rates absent.json
    echo '[]]' >broken.json
    expect_refusal 1 'broken.json:1:3' plan "${decode[@]}" --rates broken.json

    run plan --shape llama-3.1-405b --devices cpu --attention pps --context 4000000 --ranks 8 \
        --memory-limit 4096GiB --json
    expect_status 0
    expect_match 'shape' out '"model":.*126 layers, 128/8 heads of 128'
    expect '405.8 billion weights of 2 bytes' "$(awk '/"weights":/ { print int($2 / 2e8) }' out)" 4058
}

# ---- logits, tokenize, detokenize ----

case_logits() {
    echo '[4091, 39, 762, 78, 1807]' >ids.json
    run logits --model "$demo" --tokens ids.json --output logits.safetensors --trace trace.json
    expect_status 0
    expect stdout "$(<out)" ''
    local header
    header=$(od -An -tu8 -N8 logits.safetensors)
    expect 'file size' "$(stat -c %s logits.safetensors)" $((8 + header + 5 * 4096 * 4))
    expect_match header <(tail -c +9 logits.safetensors | head -c "$header") \
        '^\{"logits":\{"dtype":"F32","shape":\[5,4096\],"data_offsets":\[0,81920\]\}\} *$'
    expect_match 'trace' trace.json '"name":"lm_head"'

    refuse_ids() { # refuse_ids STATUS PATTERN TEXT
        echo "$3" >ids.json
        expect_refusal "$1" "ids.json.*$2" \
            logits --model "$demo" --tokens ids.json --output none.safetensors
        [[ ! -e none.safetensors ]] || fail "$3" 'a file' 'no file'
    }
    refuse_ids 1 '\[1\]: expected an integer from 0 to 4095, found 4096' '[1, 4096]'
    refuse_ids 1 '\[0\]: expected an integer from 0 to 4095, found -1' '[-1]'
    refuse_ids 1 'found "1"' '["1"]'
    refuse_ids 1 'expected an array, found an object' '{"ids": [1]}'
    refuse_ids 1 ':2:1: ' '[1,'
    refuse_ids 2 'the prompt is empty: found 0 tokens' '[]'
    echo '[1]' >ids.json
    expect_refusal 2 'needs --tokens FILE and --output' logits --model "$demo" --output x
    expect_refusal 2 'needs --tokens FILE and --output' logits --model "$demo" --tokens ids.json
    expect_refusal 2 '--tokens: absent.json: cannot open' logits --model "$demo" --tokens absent.json --output x
    expect_refusal 2 '--output: absent/x: cannot open for writing' \
        logits --model "$demo" --tokens ids.json --output absent/x
    expect_refusal 2 'no model' logits --tokens ids.json --output x
    expect_refusal 2 'tried /absent' logits --model /absent --tokens ids.json --output x
}

case_tokenize() {
    local llama3=$golden/tokenizer-llama3-style llama2=$golden/tokenizer-llama2-style
    cat >texts.json <<'END'
["", " ", "\n\n  \n", "Hello world", "I'll we've they'RE", "<|begin_of_text|>hi<|eot_id|>",
 "na\u00efve café – “quotes” … €100"]
END
    run tokenize --model "$llama3" --json texts.json
    expect_status 0
    expect 'llama3 style' "$(<out)" '[4091]
[4091, 220]
[4091, 198, 198, 220, 372]
[4091, 39, 762, 78, 1807]
[4091, 40, 6, 281, 348, 6, 371, 432, 6, 49, 36]
[4091, 4091, 71, 72, 4095]
[4091, 1760, 127, 107, 371, 528, 69, 127, 102, 220, 158, 222, 241, 220, 158, 222, 250, 521, 2638, '\
'158, 222, 251, 220, 158, 222, 99, 220, 158, 224, 105, 16, 15, 15]'
    run tokenize --model "$llama3" --json texts.json --no-special
    expect '--no-special' "$(sed -n '1p;4p' out)" $'[]\n[39, 762, 78, 1807]'
    printf '%s' '["", "a", "  ", "\n", "Hello world"]' >texts.json
    run tokenize --model "$llama2" --json texts.json
    expect 'llama2 style' "$(<out)" '[1]
[1, 1681]
[1, 945, 945, 945]
[1, 945, 262]
[1, 1833, 332, 1697, 342, 1985, 1745]'
    run tokenize --model "$demo" --no-special < <(printf 'Hello world')
    expect_status 0
    expect stdin "$(<out)" '[39, 762, 78, 1807]'
    run tokenize --model "$demo" < <(printf '\377')
    expect_status 1
    expect_match 'bad UTF-8' err 'invalid UTF-8 at byte offset 0'
    echo '["a"' >texts.json
    expect_refusal 1 'texts.json:2:1: ' tokenize --model "$demo" --json texts.json
    echo '{"a": "b"}' >texts.json
    expect_refusal 1 'texts.json: expected an array' tokenize --model "$demo" --json texts.json
    echo '[5]' >texts.json
    expect_refusal 1 'texts.json: \[0\]: expected a string, found 5' \
        tokenize --model "$demo" --json texts.json
    expect_refusal 2 'tokenize needs --model' tokenize
    expect_refusal 2 'tried /absent' tokenize --model /absent
}

case_detokenize() {
    echo '[[], [4091, 39, 762, 78, 1807], [39, 762, 78, 1807], [4091, 198, 198, 220, 372], [2638]]' \
        >ids.json
    run detokenize --model "$golden/tokenizer-llama3-style" --json ids.json
    expect_status 0
    expect 'llama3 style' "$(head -n 4 out)" '""
"<|begin_of_text|>Hello world"
"Hello world"
"<|begin_of_text|>\n\n  \n"'
    expect 'lines' "$(wc -l <out)" 5
    echo '[[1833, 332, 1697, 342, 1985, 1745], [945, 262]]' >ids.json
    run detokenize --model "$golden/tokenizer-llama2-style" --json ids.json
    expect 'llama2 style' "$(<out)" $'"Hello world"\n"\\n"'
    echo '[[4096, 39, 762, 78, 1000000]]' >ids.json
    run detokenize --model "$demo" --json ids.json
    expect 'ids that no token has' "$(<out)" '"Hello"'
    echo '[[-1]]' >ids.json
    expect_refusal 1 'ids.json: \[0\]\[0\]: expected an integer from 0 to 2147483646, found -1' \
        detokenize --model "$demo" --json ids.json
    echo '[4095]' >ids.json
    expect_refusal 1 'ids.json: \[0\]: expected an array' detokenize --model "$demo" --json ids.json
    echo '[[1]' >ids.json
    expect_refusal 1 'ids.json:2:1: ' detokenize --model "$demo" --json ids.json
    expect_refusal 2 'detokenize needs --json' detokenize --model "$demo"
}
