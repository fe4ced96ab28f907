# Cases of the benchmarks, and of the shapes they know. No time is judged, only what is printed.
# shellcheck shell=bash
# shellcheck disable=SC2154  # variables of cli_test.sh and lib.sh

decode_ops=(embed projection static_attention output ffn hashing table_lookup sampled_attention
    lm_head sample)
prefill_ops=(embed projection prefill_attention output ffn offload hashing_keys table_build lm_head)

expect_ops() { # expect_ops WHAT FILE OP...: a line of figures for each, and for all of them
    local what=$1 file=$2 op
    shift 2
    for op in "$@" all; do
        expect_lines "$what: $op" "$file" \
            "^  CPU  $op +[0-9]+\.0 +[0-9.]+ +[0-9.]+ % +([0-9.]+|-) +([0-9.]+|-) +([0-9.]+|-)\$" 1
    done
    expect_match "$what: columns" "$file" '^ +op +calls +mean ms +of time +GB/s +of read +GFLOP/s$'
    expect "$what: the last line is the sum" "$(awk '$1 == "CPU" && $6 == "%" {
            if ($2 == "all") { calls -= $3; ms -= $4 } else { calls += $3; ms += $4 }
        } END { print (calls == 0 && ms * ms < 1e-4) }' "$file")" 1
}

number_of() { # number_of KEY FILE: in the first object of the benchmark's JSON
    sed -n "s/^[[:space:]]*\"$1\":[[:space:]]*\([0-9.e+-]*\),\{0,1\}\$/\1/p" "$2" | head -n 1
}

expect_true() { # expect_true WHAT CONDITION: of awk
    expect "$1: $2" "$(awk "BEGIN { print ($2) ? 1 : 0 }")" 1
}

expect_json_array() { # expect_json_array FILE: of objects
    expect_refusal 1 "$1: \[0\]: expected an array, found an object" \
        detokenize --model "$demo" --json "$1"
}

case_bench() { # on all cores
    local arguments=(--model "$demo" --devices cpu --context 300) steps=(--steps 3 --warmup 1)
    run bench decode "${arguments[@]}" "${steps[@]}" --batch 2
    expect_status 0
    expect_match 'model' out '^decode: llama, 8 layers, '
    expect_match 'machine' out '^  machine +StarPU .* kernels: [a-z0-9]+'
    expect_match 'memory' out '^  memory reads +CPU [0-9.]+ GB/s$'
    expect_match 'context' out '^  context +300 tokens, batch 2, [0-9]+ micro-batch(es)?$'
    expect_match 'attention' out '^  attention +sampled in 7 of 8 layers, magicpig, \(K, L\) = \(10, 150\)$'
    expect_match 'step' out \
        '^  step +[0-9.]+ ms \(median of 3; [0-9.]+ to [0-9.]+\), [0-9.]+ tokens/s$'
    expect_match 'sampled' out '^  sampled +[0-9.]+ % of the offloaded tokens$'
    expect_match 'devices' out '^  devices +of [0-9.]+ ms \(the median of [0-9]+\), CPU busy [0-9.]+ ms, idle '
    expect_match 'memory' out '^  memory +CPU: peak [0-9.]+ [MG]iB, planned [0-9.]+ [MG]iB$'
    expect_ops 'decode' out "${decode_ops[@]}"
    expect_true 'tokens/s' "$(awk '$1 == "step" {
        print 1000 * 2 / $2 "/" $(NF - 1) " < 1.01 && " 1000 * 2 / $2 "/" $(NF - 1) " > 0.99" }' out)"
    expect 'GB/s over the memory'\''s' "$(awk '/memory reads/ { reads = $4 }
        $1 == "CPU" && $2 == "all" { d = $7 / reads - $8; print (d * d < 4e-4) }' out)" 1

    run bench decode "${arguments[@]}" "${steps[@]}" --kv prompt --compare
    expect_status 0
    expect_match 'rows' out '^ +ms/step +tokens/s +GPU ms +CPU ms +idle ms +sampled$'
    expect_lines 'sampled' out '^magicpig, KV in CPU memory( +[0-9.]+){6} %$' 1
    expect_lines 'full' out '^full, all on the CPU( +[0-9.]+){5} +all$' 1
    expect_lines 'full, at length' out '^  attention +full, on the CPU$' 1

    run bench prefill "${arguments[@]}"
    expect_status 0
    expect_match 'context' out '^  context +300 tokens$'
    expect_match 'prompt' out '^  prompt +[0-9.]+ s \(median of 1; .*\), [0-9]+ tokens/s$'
    expect_ops 'prefill' out "${prefill_ops[@]}"
    expect_lines 'nothing sampled' out '^  sampled' 0
}

case_bench_json() {
    run bench decode --model "$demo" --devices cpu --context 300 --steps 3 --warmup 1 --json
    expect_status 0
    cp out decode.json
    expect_json_array decode.json
    local key
    for key in context batch micro_batches lsh_K lsh_L sparse_layers cpu_bytes_per_second \
        cpu_memory_bytes cpu_planned_bytes median_seconds sampled recorded_seconds \
        cpu_busy_seconds idle_seconds over_busier calls seconds bytes; do
        expect_true "$key" "0$(number_of "$key" decode.json) > 0"
    done
    expect 'context' "$(number_of context decode.json)" 300
    expect_match 'attention' decode.json '"method":\s*"magicpig"'
    expect_match 'seconds' decode.json '"seconds":\s*\[[0-9.e-]+, [0-9.e-]+, [0-9.e-]+\]'
    local op
    for op in "${decode_ops[@]}"; do
        expect_lines "$op" decode.json "\"op\":\s*\"$op\"" 1
    done
}

# Every op, for each variant of the kernels that this CPU has.
case_bench_ops() {
    local isa variants=0
    run bench ops --model "$demo" --devices cpu --context 300 --steps 1 --warmup 0
    expect_status 0
    cp out ops
    for isa in avx2 avx512; do
        run plan --model "$demo" --devices cpu --context 300 --isa "$isa"
        if ((status == 0)); then
            variants=$((variants + 1))
            sed -n "/^prefill, $isa: /,/^\$/p" ops >prefill
            expect_ops "prefill, $isa" prefill "${prefill_ops[@]}"
            sed -n "/^decode, $isa: /,/^\$/p" ops >decode
            expect_ops "decode, $isa" decode "${decode_ops[@]}"
        fi
    done
    expect_lines 'only those' ops '^(prefill|decode), ' $((2 * variants))
}

# Synthetic keys are met as often as is asked for.
case_bench_shape() {
    run bench decode --shape llama-3.2-1b --layers 2 --devices cpu --context 3000 --sampled 0.03 \
        --steps 4 --warmup 0 --memory-limit 3GiB --json
    expect_status 0
    expect_match 'model' out '"llama-3.2-1b, 2 layers, 32/8 heads of 64, .*, random weights"'
    local sampled
    sampled=$(number_of sampled out)
    expect_true 'sampled' "0$sampled > 0.026 && 0$sampled < 0.034"

    run plan --shape llama-3.1-70b --layers 8 --devices cpu --context 98000 --memory-limit 1024GiB
    expect_status 0
    expect_match 'plan' out '^model: llama-3.1-70b, 8 layers, 64/8 heads of 128, '
    expect_match 'weights' out '^  weights +1[0-9]{4}\.[0-9] MiB$'
    # The usual share cannot be had with these tables: the nearest serves unless one is asked for.
    run bench decode --model "$demo" --context 500 --steps 1 --warmup 0 --lsh-k 8 --lsh-l 75
    expect_status 0
    expect_match 'nearest share' out '^  sampled +[56]\.[0-9]+ % of the offloaded tokens$'
}

case_bench_usage() {
    local shape=(--shape llama-3.2-1b --layers 2 --devices cpu) verb
    expect_refusal 2 'found "bench", expected bench decode, bench prefill or bench ops' bench
    expect_refusal 2 'found "bench nothing", expected bench decode' bench nothing
    for verb in decode prefill ops; do
        expect_refusal 2 "bench $verb needs --context N" bench "$verb" --model "$demo"
        expect_refusal 2 "bench $verb needs either --shape NAME or --model" bench "$verb" --context 9
        run bench "$verb" --help
        expect_status 0
        expect_match "$verb: example" out "^  magicpig-pipe bench $verb --"
        expect_match "$verb: shapes" out '^Shapes: llama-3.1-8b, .*, qwen3-8b$'
    done
    expect_refusal 2 'found both --shape llama-3.2-1b and the model .*/demo, expected one' \
        bench decode "${shape[@]}" --model "$demo" --context 9
    expect_refusal 2 '--layers needs --shape' bench decode --model "$demo" --layers 2 --context 9
    expect_refusal 2 '--layers: found "0"' bench decode --shape llama-3.2-1b --layers 0 --context 9
    expect_refusal 2 '--sampled needs --shape and no --kv prompt' \
        bench decode --model "$demo" --sampled 0.02 --context 300
    expect_refusal 2 '--sampled needs --shape and no --kv prompt' \
        bench decode "${shape[@]}" --sampled 0.02 --kv prompt --context 300
    expect_refusal 2 '--sampled: every layer is in cache_layers, expected one that samples' \
        bench decode --shape llama-3.2-1b --layers 1 --sampled 0.02 --context 300
    expect_refusal 2 '--sampled: found attention full, expected one that samples by direction' \
        bench decode "${shape[@]}" --sampled 0.02 --lsh-k 0 --context 300
    expect_refusal 2 '--sampled: found "2", expected a number above 0, up to 1' \
        bench decode "${shape[@]}" --sampled 2 --context 300
    expect_refusal 2 'bench prefill has no option --sampled' \
        bench prefill "${shape[@]}" --sampled 0.02 --context 300
    expect_refusal 2 '--compare: found attention full, expected one that samples, to compare' \
        bench decode --model "$demo" --lsh-k 0 --compare --context 300
    expect_refusal 2 'unknown shape "llama-3.2-1a" \(nearest: llama-3.2-1b\); known shapes: llama-3' \
        bench decode --shape llama-3.2-1a --context 9
    expect_refusal 2 'found 70000 tokens, the model has 65536 positions' \
        bench prefill --model "$demo" --context 70000
    # The steps follow the context.
    expect_refusal 2 'with the 41 tokens of the steps is more than' bench decode --model "$demo" --context 65530

    # Before anything is drawn.
    expect_refusal 1 'the plan needs 3\.[0-9]+ GiB for 1 x 9000 .* memory_limit is 1\.00 GiB' \
        bench decode --shape llama-3.2-1b --devices cpu --context 9000 --memory-limit 1GiB
    expect_lines 'refused before StarPU starts' err StarPU 0
    run bench decode "${shape[@]}" --sampled 0.9 --context 300
    expect_status 2
    expect_match 'share' err \
        'sampled share: found 0\.9000, but .* \(K, L\) = \(10, 150\) give 0\.00[0-9]+ to 0\.1[0-9]+$'

    expect_refusal 2 '--input needs --model: a shape has no tokenizer' \
        plan --shape llama-3.2-1b --input "$source_dir/configs/data4k.json"
    expect_refusal 2 'found both --shape llama-3.2-1b and the model' \
        plan --shape llama-3.2-1b --model "$demo" --context 9
    expect_refusal 2 'plan needs either --shape NAME or --model DIR' plan --context 9
    expect_refusal 2 '--layers needs --shape' plan --model "$demo" --layers 2 --context 9
    expect_refusal 2 'found 16777217 tokens, the model has 16777216' \
        plan --shape llama-3.2-1b --context 16777217
}
