# Records and their forms.
# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # variables of cli_test.sh and lib.sh

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
