# Cases of models whose tokenizers have something to say about what runs.
# shellcheck shell=bash
# shellcheck disable=SC2154  # variables of cli_test.sh and lib.sh

# Models can have more ids than their tokenizer: those are not generated, unless one of them is the end
# of answers. This tokenizer has 2,000 of the demo's 4,096, and sampling at such a temperature draws all.
case_padded_vocab() {
    local resume tokenless='"token_ids":\[[^]]*[^0-9][234][0-9]{3}[],]'
    make_model model tokenizer.json
    cp "$golden/tokenizer-llama2-style/tokenizer.json" model
    printf '{"id": "%s", "input": "Hello", "max_new_tokens": 40}\n' a b >records.jsonl
    for resume in '' --resume; do
        run --model model --input records.jsonl --output answers.jsonl --temperature 5 --eos none \
            ${resume:+"$resume"}
        expect_status 0
        expect finished "$(ids_of answers.jsonl)" 'a b'
        expect_lines 'whole lines' answers.jsonl "$output_line" 2
        expect_lines 'ids without a token' answers.jsonl "$tokenless" 0
    done
    sed -n 's/.*"token_ids":\(\[[^]]*\]\).*/[\1]/p;q' answers.jsonl >ids.json
    run detokenize --model model --json ids.json
    expect_status 0
    expect_lines 'as generated' out "^\"$string\"\$" 1
    # Greedily chosen, and of a vocabulary with holes.
    echo '{"model": {"type": "BPE", "vocab": {"a": 7, "b": 4000}, "merges": []},
        "decoder": {"type": "Fuse"}}' >model/tokenizer.json
    echo '{"input_ids": [39, 762, 78, 1807], "max_new_tokens": 40}' >records.jsonl
    run --model model --input records.jsonl --output - --eos none
    expect_lines 'of two tokens' out '"token_ids":\[((7|4000),?){40}\]' 1
    run --model model --input records.jsonl --output - --eos 1046
    expect_lines 'up to an end token' out '"token_ids":\[((7|4000),)*1046\]' 1
    rm model/tokenizer.json
    run --model model --input records.jsonl --output - --eos none
    expect_lines 'of all' out '"token_ids":\[.*1046[],]' 1
}

# BOS from tokenizer_config.json, where tokenizer.json puts none; generate uses what tokenize shows.
case_tokenizer_config() {
    make_model model tokenizer.json tokenizer_config.json
    sed '/"post_processor": {/,/^  },/c "post_processor": {"type": "ByteLevel"},' \
        "$demo/tokenizer.json" >model/tokenizer.json
    printf 'Hello world' >text
    run tokenize --model model <text
    expect 'tokenizer.json alone' "$(<out)" '[39, 762, 78, 1807]'
    cat >model/tokenizer_config.json <<'END'
{"add_bos_token": true, "add_eos_token": false, "bos_token": {"__type": "AddedToken",
 "content": "<|begin_of_text|>", "lstrip": false, "normalized": true, "rstrip": false,
 "single_word": false}, "eos_token": "<|eot_id|>", "tokenizer_class": "LlamaTokenizerFast"}
END
    run tokenize --model model <text
    expect_status 0
    expect 'with tokenizer_config.json' "$(<out)" '[4091, 39, 762, 78, 1807]'
    run --model model --prompt "$(<text)" --gen-len 4 --eos none
    expect_status 0
    expect_match generate err '^  prompts +1 request, 5 tokens'
    cp out expected
    generate --prompt "$(<text)" --gen-len 4 --eos none
    expect 'as the demo' "$(<out)" "$(<expected)"
    echo '{"add_bos_token": "yes"}' >model/tokenizer_config.json
    expect_refusal 1 'model/tokenizer_config.json: add_bos_token: expected true or false' \
        tokenize --model model
    expect_refusal 1 'model/tokenizer_config.json: add_bos_token: expected true or false' \
        --model model --prompt Hello
}

# A text that takes long to become tokens: a signal ends it.
case_interrupt_tokenizer() {
    {
        printf '{"input": "'
        yes 'some words, and 123 \u00e9' | head -n 3000000 | tr '\n' ' '
        printf '"}\n'
    } >records.jsonl
    start --input records.jsonl --output answers.jsonl
    sleep 1
    kill -INT "$child"
    wait_child
    expect_status 130
    expect_match "$command" err '^magicpig-pipe: error: interrupted$'
    expect answers "$(cat answers.jsonl 2>/dev/null)" ''
}
