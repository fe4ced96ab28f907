# Cases of wrong command lines, and of the help.
# shellcheck shell=bash
# shellcheck disable=SC2154  # variables of cli_test.sh and lib.sh

case_usage() {
    local hello=(--model "$demo" --prompt Hello)
    expect_refusal 2 'found "answer", expected generate, logits, tokenize' answer
    expect_refusal 2 'found "stray", expected an option' generate stray
    expect_refusal 2 'generate has no option --xyzzy-plugh; see --help' --xyzzy-plugh 1
    expect_refusal 2 'no option --chunk-sise \(nearest: --chunk-size\)' --chunk-sise 1
    expect_refusal 2 'no option --imput \(nearest: --input\)' --imput x
    expect_refusal 2 'no option --jason \(nearest: --json\)' tokenize --jason x
    expect_refusal 2 'tokenize has no option --gen-len; see --help' tokenize --gen-len 3
    expect_refusal 2 'generate has no option --tokens' --tokens x
    expect_refusal 2 '--gen-len needs a value' --gen-len
    expect_refusal 2 '--quiet takes no value, found "1"' --quiet=1
    expect_refusal 2 '--gen-len: expected an integer from 1 .*, found "ten"' --gen-len ten
    expect_refusal 2 '--memory-limit: expected bytes.*, found "8GB"' --memory-limit 8GB
    expect_refusal 2 '--lsh-k: expected an integer from 0 to 16, found "17"' --lsh-k=17
    expect_refusal 2 'runtime.micro_batches: expected at most' "${hello[@]}" --micro-batches 2
    expect_refusal 2 'found layer 8, but the model has layers 0 to 7' "${hello[@]}" --cache-layers 8
    expect_refusal 2 'scheduler: found "fastest", expected one of .*prio' "${hello[@]}" --sched fastest
    expect_refusal 2 '--isa: expected one of auto\|ref\|avx2\|avx512' "${hello[@]}" --isa sse
    if ! grep -q avx512f /proc/cpuinfo; then
        expect_refusal 2 'isa "avx512": this CPU cannot run it' "${hello[@]}" --isa avx512
    fi
    CUDA_VISIBLE_DEVICES='' expect_refusal 2 'runtime.devices: found gpu, but no GPU' \
        "${hello[@]}" --devices gpu
    expect_refusal 2 'found gpu, but runtime.isa ref runs on the CPU alone' \
        "${hello[@]}" --devices gpu --isa ref
    expect_refusal 2 'found gpu, but mem_efficient 0 runs on the CPU alone' \
        "${hello[@]}" --devices gpu --mem-efficient 0
    expect_refusal 2 '--devices: expected one of auto\|cpu\|gpu' "${hello[@]}" --devices tpu
    expect_refusal 2 'give --input FILE or --prompt TEXT, not both' "${hello[@]}" --input x
    expect_refusal 2 'give --input FILE or --prompt TEXT' --model "$demo"
    expect_refusal 1 'absent.jsonl: cannot open' --model "$demo" --input absent.jsonl
    expect_refusal 1 'absent/x: cannot open for writing' "${hello[@]}" --output absent/x
}

case_usage_config() {
    echo '{"lsh_k": 10}' >config.json
    expect_refusal 2 'config.json: lsh_k: unknown key, did you mean "lsh_K"' --config config.json
    expect_refusal 2 'absent.json: cannot open' --config absent.json
    expect_refusal 2 'no model: give --model DIR, or model_path' --prompt Hello
    mkdir configs
    echo '{"model_path": "org/name"}' >configs/config.json
    HF_HUB_CACHE=/hub HF_HOME=/hf HOME=/home/user \
        expect_refusal 2 'model "org/name": .*tried ' --config configs/config.json --prompt Hello
    local place
    for place in configs/org/name ", org/name," /hub/models--org--name /hf/hub/models--org--name \
        /home/user/.cache/huggingface/hub/models--org--name; do
        expect_match 'places tried' err "tried .*$place"
    done
    # A flag wins over the file, wherever --config stands.
    printf '{"model_path": "%s", "gen_len": 9, "eos": []}' "$demo" >config.json
    run --gen-len 2 --prompt Hello --config config.json
    expect_status 0
    expect_match '--gen-len over gen_len' err '^  generated +2 tokens'
}

case_help() {
    local verb
    for verb in generate logits tokenize detokenize plan tune; do
        run "$verb" --help
        expect_status 0
        expect_match "$verb: example" out '^  (.* \| )?magicpig-pipe .*--'
        expect "$verb: stderr" "$(<err)" ''
    done
    run generate --help
    expect_match 'defaults' out '^  --lsh-k N +bits of a hash code.* \(default 10\)$'
    run --help
    expect_status 0
    cp out overview
    run
    expect_status 0
    expect 'no arguments' "$(<out)" "$(<overview)"
    for verb in generate plan logits tokenize detokenize tune; do
        expect_match overview overview "$verb"
    done
    run --version
    expect_status 0
    expect_match version out '^magicpig-pipe [0-9]+\.[0-9]+\.[0-9]+$'
}
