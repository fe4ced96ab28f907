# Layers on several GPUs, which CPU workers stand for.
# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # variables of cli_test.sh and lib.sh

# A worker with one thread for each, as the one device that they are compared with has it.
one_device=(--devices cpu --cpu-workers 2 --threads 2)
two_devices=(--devices mock --gpus 2 --threads 2)

# What a run is judged by: without its times.
without_times() { sed -E 's/"(prefill|decode)_seconds":[^,]*,//g' "$1" | sort; }

expect_as_on_one() { # expect_as_on_one ARGUMENT...: of layers on two devices as on one
    rm -f one.jsonl two.jsonl
    run --model "$demo" "${one_device[@]}" --output one.jsonl "$@"
    expect_status 0
    cp out one
    run --model "$demo" "${two_devices[@]}" --output two.jsonl "$@"
    expect_status 0
    expect "$command: stdout" "$(<out)" "$(<one)"
    expect "$command: answers" "$(without_times two.jsonl)" "$(without_times one.jsonl)"
}

make_mixed() { # six requests of several lengths, some of them with a prompt in common: mixed.jsonl
    local i lengths=(12 3 8 2 6 5)
    make_needle
    for i in 0 1 2 3; do
        printf '{"id": "%d", "input": "%s", "max_new_tokens": %d}\n' "$i" \
            "$(story "$i" $((15 + 60 * i)))" "${lengths[i]}"
    done >mixed.jsonl
    tr -d '\n' <needle.json >>mixed.jsonl && echo >>mixed.jsonl
    tr -d '\n' <needle.json | sed 's/"index": *0/"index": 7/' >>mixed.jsonl && echo >>mixed.jsonl
}

case_gpus() { # on all cores
    need_two_cores
    make_mixed
    local method
    for method in magicpig pps full; do
        expect_as_on_one --input mixed.jsonl --attention "$method" --eos none --batch 3
    done
    # Several micro-batches follow each other; chunks do; KV is on CPU workers, or some layers' is.
    expect_as_on_one --input mixed.jsonl --eos none --batch 6 --micro-batches 3 --chunk-size 64
    expect_as_on_one --input mixed.jsonl --eos none --batch 3 --chunk-size 100 --gpu-kv-layers 0 \
        --prefill-share 0.3
    expect_as_on_one --input mixed.jsonl --eos none --batch 3 --gpu-kv-layers 3 --kv-dtype int8 \
        --attention pps --generation-budget 4
    # Prompts are kept and found again.
    local i
    for i in 1 2; do
        demo_1k "${two_devices[@]}" --chunk-size 300 --kv-dir kept --output "$i.jsonl"
    done
    [[ $(cached 2.jsonl) =~ ^[0-9]{4}\ $ ]] || fail 'from the folder' "$(cached 2.jsonl)" 'thousands'
}

case_gpus_logits() { # on all cores
    need_two_cores
    local ids=$golden/demo/golden_input_ids.json
    run logits --model "$demo" --tokens "$ids" --output one.safetensors "${one_device[@]}" --chunk-size 48
    expect_status 0
    run logits --model "$demo" --tokens "$ids" --output two.safetensors "${two_devices[@]}" --chunk-size 48
    expect_status 0
    cmp one.safetensors two.safetensors || fail 'logits' 'others on two devices' 'the same bits'
}

# A part of every layer on each: sums have other orders than on one device, so that texts are compared
# where activations are not rounded much.
case_gpus_tensor() { # on all cores
    need_two_cores
    make_mixed
    local parts=("${two_devices[@]}" --parallel tensor) method
    local same=(--model "$demo" --input mixed.jsonl --eos none --batch 3 --activations bf16x2)
    for method in magicpig pps quest; do
        run "${same[@]}" "${one_device[@]}" --attention "$method"
        expect_status 0
        cp out one
        run "${same[@]}" "${parts[@]}" --attention "$method" --micro-batches 2 --chunk-size 100
        expect_status 0
        expect "$command: stdout" "$(<out)" "$(<one)"
    done
    run "${same[@]}" "${parts[@]}" --attention pps --kv-dtype int8 --generation-budget 4 --gpu-kv-layers 0
    expect_status 0
    demo_1k "${parts[@]}" --gpu-kv-layers 3
    run bench decode --shape llama-3.2-1b --layers 2 --context 3000 --steps 2 --warmup 1 "${parts[@]}"
    expect_status 0
    expect_match 'sums' out '^  CPU  peer_mean +9\.0 '
    run plan --model "$demo" --context 4096 --devices mock --gpus 2 --parallel tensor
    expect_status 0
    expect_match 'plan' out '^  heads and FFN of every layer on 2 GPUs, 1/2 on each$'
}

case_gpus_usage() { # on all cores
    local one=(--model "$demo" --prompt 'The old baker')
    expect_refusal 2 'runtime.gpus: found 2, but devices is cpu' "${one[@]}" --devices cpu --gpus 2
    expect_refusal 2 '--gpus: expected an integer from 1 to 8, found "9"' "${one[@]}" --gpus 9
    expect_refusal 2 'runtime.gpu_memory: mock GPUs have no memory' "${one[@]}" --devices mock \
        --gpu-memory 1GiB
    expect_refusal 2 'runtime.gather: found gpu, but devices is mock' "${one[@]}" --devices mock \
        --gather gpu
    expect_refusal 2 'runtime.cpu_workers: found 1, expected at least 2' "${one[@]}" --devices mock \
        --gpus 2 --cpu-workers 1
    if ! command -v nvidia-smi >/dev/null; then
        expect_refusal 2 'runtime.gpus: found 2, but no GPU' "${one[@]}" --gpus 2
    fi
    expect_refusal 2 'runtime.parallel: found tensor with 0 GPUs, expected 2 or more' "${one[@]}" \
        --devices cpu --parallel tensor
    expect_refusal 2 'runtime.parallel: found tensor with 3 GPUs, .* divides the model.s 2 KV heads' \
        "${one[@]}" --devices mock --gpus 3 --parallel tensor
    echo '{}' >rates.json
    expect_refusal 2 '--rates: found with runtime.parallel tensor' plan --model "$demo" --context 4096 \
        --devices mock --gpus 2 --parallel tensor --rates rates.json
    expect_refusal 2 'runtime.kv_dir: found with runtime.parallel tensor' "${one[@]}" --devices mock \
        --gpus 2 --parallel tensor --kv-dir kept
    expect_refusal 2 'runtime.parallel: several attentions beside each other expect layers' eval \
        --model "$demo" --task vt --tokens 500 --samples 1 --setting attention=full --devices mock \
        --gpus 2 --parallel tensor
    run plan --model "$demo" --context 4096 --devices mock --gpus 2
    expect_status 0
    expect_match 'plan' out '^  layers 0 to 3 on GPU 0, 4 to 7 on GPU 1$'
}
