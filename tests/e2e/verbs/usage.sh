# Cases of wrong command lines, and of the help.
# shellcheck shell=bash
# shellcheck disable=SC2154  # variables of cli_test.sh and lib.sh

case_usage() {
    local hello=(--model "$demo" --prompt Hello)
    expect_refusal 2 'found "answer", expected generate, serve, eval, logits, tokenize' answer
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
    generate --prompt Hello --gen-len 1 --devices cpu --gpu-kv-layers 5
    expect_status 0
    expect_match 'settings of a GPU' err 'warning: runtime.gpu_memory and .* have no effect: no GPU'
    expect_refusal 2 '--devices: expected one of auto\|cpu\|gpu' "${hello[@]}" --devices tpu
    expect_refusal 2 'give --input FILE or --prompt TEXT, not both' "${hello[@]}" --input /dev/null
    expect_refusal 2 'give --input FILE or --prompt TEXT' --model "$demo"
    expect_refusal 2 '--input: absent.jsonl: cannot open' --model "$demo" --input absent.jsonl
    # A file that is not there, or cannot be, is a wrong option for every verb.
    expect_refusal 2 '--output: absent/x: cannot open for writing' "${hello[@]}" --output absent/x
    expect_refusal 2 '--output: absent/x: cannot open for writing' \
        tune --model "$demo" --context 70 --output absent/x
    expect_refusal 2 '--json: absent.json: cannot open' tokenize --model "$demo" --json absent.json
    expect_refusal 2 '--json: absent.json: cannot open' detokenize --model "$demo" --json absent.json
    expect_refusal 2 '--input: absent.jsonl: cannot open' plan --model "$demo" --input absent.jsonl
    expect_refusal 2 '--setting "absent.json": absent.json: cannot open' \
        eval --model "$demo" --input /dev/null --setting absent.json
    expect_refusal 2 'eos: found 4096, but the model has tokens 0 to 4095' "${hello[@]}" --eos 4096
    expect_refusal 2 'eos: found 4096, but' "${hello[@]}" --eos 1,4096,5
    expect_refusal 2 '--fxt-steps needs --fxt FOLDER' "${hello[@]}" --fxt-steps 3
    expect_refusal 1 '\((48|184)\.00 MiB of it program.*memory_limit is 1 bytes' "${hello[@]}" --memory-limit 1
}

# A run overwrites nothing that it reads, nor what else it writes.
case_paths() {
    local hello=(--model "$demo" --prompt Hello)
    mkdir o
    ln -s "$demo" model
    echo '{"input": "Hello"}' >prompts.jsonl
    echo '{"gen_len": 2}' >config.json
    echo '[1, 2]' >ids.json
    echo '{"id":"1"}' >done.jsonl
    cp prompts.jsonl config.json ids.json done.jsonl o
    expect_refusal 2 '--output: found the file of trace.file, done.jsonl' \
        "${hello[@]}" --output ./done.jsonl --resume --trace done.jsonl
    expect_refusal 2 'trace.file: found the file of trace.report, o/new' \
        "${hello[@]}" --trace o/../o/new --report o/new
    expect_refusal 2 'trace.file: found the file of --input, prompts.jsonl' \
        --model "$demo" --input prompts.jsonl --trace prompts.jsonl
    expect_refusal 2 'trace.report: found the file of --config, config.json' \
        --config config.json "${hello[@]}" --report config.json
    expect_refusal 2 '--output: found the file of --tokens, ids.json' \
        logits --model "$demo" --tokens ids.json --output ids.json
    expect_refusal 2 '--output: found the file of --config, config.json' \
        tune --config config.json --model "$demo" --context 70 --output config.json
    expect_refusal 2 "trace.file: found model/config.json, a file in the model's folder" \
        --model model --prompt Hello --trace model/config.json
    local file
    for file in prompts.jsonl config.json ids.json done.jsonl; do
        cmp -s "$file" "o/$file" || fail "$file" "$(<"$file")" "$(<"o/$file")"
    done
    expect 'files' "$(ls o)" "$(ls prompts.jsonl config.json ids.json done.jsonl)"
}

# Without a home StarPU's folder is below TMPDIR, where there is no such place the run ends in words.
case_no_home() {
    unset STARPU_PERF_MODEL_DIR STARPU_HOME
    mkdir tmp
    export HOME=/proc/none XDG_CACHE_HOME=/proc/none TMPDIR=$PWD/tmp
    generate --prompt Hello --gen-len 2 --eos none
    expect_status 0
    expect 'folder' "$(ls tmp)" "magicpig-pipe-$(id -u)"
    TMPDIR=/proc/none expect_refusal 1 'StarPU needs a folder .*: set STARPU_PERF_MODEL_DIR to one' \
        --model "$demo" --prompt Hello --gen-len 2
    STARPU_PERF_MODEL_DIR=/proc/none expect_refusal 1 'STARPU_PERF_MODEL_DIR: found /proc/none, exp' \
        --model "$demo" --prompt Hello --gen-len 2
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
    for verb in generate serve logits tokenize detokenize plan tune make-data; do
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
    for verb in generate serve plan logits tokenize detokenize tune make-data; do
        expect_match overview overview "$verb"
    done
    run --version
    expect_status 0
    expect_match version out '^magicpig-pipe [0-9]+\.[0-9]+\.[0-9]+$'
}
