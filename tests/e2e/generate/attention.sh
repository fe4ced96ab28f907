# Attention methods: answers, sampled shares, plans.
# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # variables of cli_test.sh and lib.sh

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
    run bench decode --model "$demo" --devices cpu --attention topk --kv-dtype int8 --context 3000 --steps 2 \
        --warmup 0
    expect_status 0
    expect_match 'attention' out '^  attention +sampled in 7 of 8 layers, topk, budget 2 %, int8 rows$'
    expect_refusal 2 '--page-size does not act for attention topk' \
        --model "$demo" --attention topk --page-size 4 --prompt x
}

# Tokens that are drawn again are not selected again.
case_oracle() {
    method_answers oracle 0.05 0.5 5
    demo_1k --attention oracle --attention-budget 0.05 --lsh-seed 7
}

# As many tokens for any length, or all there are; the same ones with any kernels.
case_pps() { # on all cores
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

# Generated tokens that leave the static cache, any number at a time: of all of them the text is that
# of full attention.
case_growth() { # on all cores
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
    # What grows old is sampled from: there is no cache of 40,000 tokens, but one of sink, window and
    # budget, and one of window and twice the budget for a request that shares another's prompt.
    run plan --model "$demo" --devices cpu --attention pps --context 3068 --gen-len 40257
    expect_status 0
    expect_lines 'room' out '^  offloaded KV +147\.2 MiB$' 1
    expect_lines 'bounded' out '^  static caches \(sink, window, generated\) +3\.1 MiB$' 1
}

# Rows of 8 bits, by every method that keeps rows; a plan has room for them.
case_int8_rows() { # on all cores
    local method
    for method in magicpig quest topk oracle pps; do
        demo_1k --attention "$method" --kv-dtype int8
    done
    run plan --model "$demo" --devices cpu --attention pps --kv-dtype int8 --context 32068
    expect_status 0
    # 32000 tokens of 2 KV heads in 7 layers: 64 channels and a scale, of keys and of values.
    expect_lines 'rows' out '^  offloaded KV +58\.1 MiB$' 1
    expect_refusal 2 '--kv-dtype does not act for attention full' \
        --model "$demo" --attention full --kv-dtype int8 --prompt x
    expect_refusal 2 '--kv-dtype: expected one of bf16|int8, found "int4"' \
        --model "$demo" --attention pps --kv-dtype int4 --prompt x
}

# Nothing of a prompt stays in the static cache of a sparse layer; prompts of one token and of more.
case_nothing_static() {
    local method isa arguments=(--input records.jsonl --gen-len 6 --eos none --batch 3)
    printf '{"input": ""}\n{"input": "Hello world"}\n{"input": "%s"}\n' "$(story 5 12)" >records.jsonl
    generate "${arguments[@]}" --attention full --devices cpu
    expect_status 0
    cp out all
    local variants=(ref auto)
    ! grep -q 'kernels: avx512' err || variants+=(avx2) # which is what auto is elsewhere
    arguments+=(--device-budget 0 --window-size 0 --cache-layers none)
    for isa in "${variants[@]}"; do
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
