# Cases of model directories as they are found: what config.json may say, and files that are not as
# they should be.
# shellcheck shell=bash
# shellcheck disable=SC2154  # variables of cli_test.sh and lib.sh

# ---- config.json ----

# change_config ARGUMENT...: the demo's config.json through sed, as model/config.json
change_config() {
    rm -f model/config.json
    sed "$@" "$demo/config.json" >model/config.json
}

ids_record() { # ids_record COUNT: a record of so many ids
    awk -v count="$1" 'BEGIN {
        printf "{\"input_ids\": [64"
        for (i = 1; i < count; i++) printf ", %d", 64 + i % 100
        print "], \"max_new_tokens\": 2}"
    }'
}

# A model whose rope stretches 512 positions by 4 reads prompts of 2048 tokens, with frequencies that
# are those of the demo up to 512.
case_rope_positions() {
    make_model model config.json
    ids_record 500 >short.jsonl
    { cat short.jsonl && ids_record 2046 && ids_record 2049; } >records.jsonl
    generate --input short.jsonl --eos none --attention full
    cp out plain
    local scaling
    for scaling in '"type": "dynamic", "factor": 4.0' '"rope_type": "yarn", "factor": 4'; do
        change_config -e 's/"max_position_embeddings": *[0-9]*/"max_position_embeddings": 512/' \
            -e "s/\"model_type\"/\"rope_scaling\": {$scaling}, &/"
        run --model model --input records.jsonl --eos none --attention full
        expect_status 1
        expect 'prompts that were read' "$(wc -l <out)" 2
        expect_match 'too long' err 'record 2: .*found 2049 tokens, the model has 2048 positions'
        [[ $scaling == *dynamic* ]] &&
            expect 'within the first positions' "$(head -n 1 out)" "$(<plain)"
    done
}

# A section that says nothing hides no other: the answer is the demo's.
case_rope_sections() {
    make_model model config.json
    change_config -e 's/"rope_theta": *\([0-9.]*\)/"rope_parameters": {"rope_theta": \1}, "rope_scaling": {}/'
    generate --prompt 'The old baker' --gen-len 8 --eos none
    cp out plain
    run --model model --prompt 'The old baker' --gen-len 8 --eos none
    expect_status 0
    expect 'empty section' "$(<out)" "$(<plain)"
}

# ---- generation_config.json ----

# Sampling that it suggests is not used, which is said unless the user asks for some.
case_suggested_sampling() {
    make_model model generation_config.json
    echo '{"eos_token_id": 4092, "do_sample": true, "temperature": 0.6, "top_p": 0.9}' \
        >model/generation_config.json
    generate --prompt Hello --gen-len 3 --eos none
    cp out plain
    run --model model --prompt Hello --gen-len 3 --eos none
    expect 'greedy' "$(<out)" "$(<plain)"
    expect_match 'said' err \
        'config.json suggests sampling, which is not used: --temperature 0.6 --top-p 0.9 --top-k 50'
    run --model model --prompt Hello --gen-len 3 --temperature 1
    expect_lines 'sampling as asked for' err suggests 0
    echo '{"do_sample": false, "temperature": 0.6, "top_k": -1}' >model/generation_config.json
    run --model model --prompt Hello --gen-len 3 --eos none
    expect_lines 'no sampling' err suggests 0
    echo '{"do_sample": true, "temperature": "hot"}' >model/generation_config.json
    expect_refusal 1 'generation_config.json: temperature: expected a number from 0 to 1e\+06, found "hot"' \
        --model model --prompt Hello
}

# ---- files ----

case_model_files() {
    local pointer=$'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 4976698672'
    local shard=model-00002-of-00002.safetensors
    make_model model "$shard"
    refuse_files() { # refuse_files PATTERN
        expect_refusal 1 "$1" --model model --prompt Hello
    }
    refuse_files "index.json: not all of its files are here: model/$shard: cannot open"
    echo "$pointer" >"model/$shard"
    refuse_files "model/$shard: found a Git LFS pointer, .*: run git lfs pull"
    head -c 1000000 "$demo/$shard" >"model/$shard"
    refuse_files "$shard: incomplete download: 1000000 of $(stat -c %s "$demo/$shard") bytes"
    head -c 1000 "$demo/$shard" >"model/$shard"
    refuse_files 'header of [0-9]+ bytes, the file has 1000: incomplete download'
    rm model/*.safetensors*
    refuse_files 'model: no weights: expected model.safetensors'
    echo PK >model/pytorch_model.bin
    refuse_files 'model: found pytorch_model.bin, expected model.safetensors'
    ln -s "$demo"/*.safetensors* model
    local file
    for file in tokenizer.json config.json generation_config.json; do
        rm model/$file
        echo "$pointer" >model/$file
        refuse_files "model/$file:1:1: found a Git LFS pointer, expected JSON"
        rm model/$file
        ln -s "$demo/$file" model/$file
    done
    rm model/tokenizer.json
    echo x >model/tokenizer.model
    refuse_files 'model: found tokenizer.model alone, expected tokenizer.json'
}
