# The verb serve: curl for the basics, and programs of tests/serve for the rest, which need node.
# shellcheck shell=bash
# shellcheck disable=SC2154  # variables of cli_test.sh

serve() { # serve ARGUMENT...: in the background as $child, with the demo model; leaves $url
    : >err
    command="magicpig-pipe serve $*"
    "$binary" serve --model "$demo" --port 0 --served-name demo "$@" >out 2>err &
    child=$!
    wait_for err 'serving demo on http'
    ((failures == 0)) || exit 1
    url=$(grep -oE 'http://[0-9.]+:[0-9]+' err)
}

# What every server does in the end: nothing but what it says, and status 0.
end_server() {
    kill -TERM "$child"
    wait_child
    expect_status 0
    expect "$command: stdout" "$(head -c 500 out)" ''
    expect_match "$command" err 'stopping: what runs is finished'
}

get() { # get PATH [CURL ARGUMENT...]: leaves body and $code
    local path=$1
    shift
    code=$(curl -sS -m 120 -o body -w '%{http_code}' "$url$path" "$@") || fail "curl $path" "$?" 0
}

expect_get() { # expect_get STATUS PATTERN PATH [CURL ARGUMENT...]
    local wanted=$1 pattern=$2
    shift 2
    get "$@"
    expect "$1: status" "$code" "$wanted"
    expect_match "$1" body "$pattern"
}

# Runs a program of tests/serve against the server.
run_node() { # run_node NAME [ARGUMENT...]
    local name=$1
    shift
    node "$source_dir/tests/serve/$name.mjs" "$url" "$@" >said 2>&1 ||
        fail "$name.mjs" "$(tail -c 3000 said)" 'exit status 0'
    expect_match "$name.mjs" said "$name: done"
}

# Ticks of the processor that the server has used.
ticks() {
    awk '{print $14 + $15}' "/proc/$child/stat"
}

need_node() {
    command -v node >/dev/null || { echo 'skipped: no node' && exit 77; }
}

case_serve() {
    local prompt='The old baker hid the broken clock.' wanted
    generate --prompt "$prompt" --gen-len 12 --devices cpu
    wanted=$(<out)
    serve --batch 2 --context 512 --devices cpu
    expect_get 200 '"status":"ok"' /health
    expect_get 200 '"id":"demo".*"max_model_len":512' /v1/models
    expect_get 200 '^{"id":"demo".*"max_model_len":512' /v1/models/demo
    expect_get 404 'The model `dem` does not exist: this server has `demo`' /v1/models/dem
    expect_get 404 'there is no /v1/models/ here' /v1/models/
    expect_get 200 '"finish_reason":"length"' /v1/completions \
        -d "{\"prompt\": \"$prompt\", \"max_tokens\": 12, \"temperature\": 0}"
    grep -qF "\"text\":\"$wanted\"" body || fail 'a completion' "$(<body)" "$wanted"
    expect_get 200 '^data: \[DONE\]' /v1/completions \
        -d "{\"prompt\": \"$prompt\", \"max_tokens\": 12, \"temperature\": 0, \"stream\": true}"
    expect 'a stream' "$(grep -oE '"text":"[^"]*"' body | cut -d'"' -f4 | tr -d '\n')" "$wanted"
    expect_get 200 '"finish_reason"' /v1/completions \
        -d '{"prompt": "a", "max_tokens": 1, "attention": "magicpig", "samples": null, "epsilon": null}'
    expect_get 400 'samples and epsilon do nothing in attention.method magicpig.*"param":"samples"' \
        /v1/completions -d '{"prompt": "a", "samples": 16}'
    expect_get 400 'samples and epsilon do nothing in attention.method magicpig.*"param":"epsilon"' \
        /v1/completions -d '{"prompt": "a", "epsilon": 0.1}'
    expect_get 200 '"content":"' /v1/chat/completions \
        -d "{\"messages\": [{\"role\": \"user\", \"content\": \"$prompt\"}], \"max_tokens\": 4}"
    expect_get 400 '"param":"n"' /v1/completions -d '{"prompt": "a", "n": 2}'
    expect_get 404 'there is no /v2 here' /v2
    expect_get 405 'takes POST' /v1/completions
    expect_get 200 '"tokens":\[4091,' /tokenize -d '{"prompt": "Once"}'
    expect_get 200 '"prompt":"o"' /detokenize -d '{"tokens": [78]}'
    expect_get 200 '"vocab_size":4096' /tokenizer_info
    expect_get 200 '^vllm:generation_tokens_total\{model_name="demo"\} 29$' /metrics
    expect_get 200 '"past":\[\{"id":"chatcmpl-' /status
    expect_get 200 "<title>" /
    # With nothing to do it sleeps, and its workers too, which would look for tasks all the time.
    local before
    before=$(ticks)
    sleep 1
    (($(ticks) - before < 20)) || fail 'ticks of a second without requests' "$(($(ticks) - before))" 0
    expect "HEAD" "$(curl -sS -m 60 -I -o /dev/null -w "%{http_code}" "$url/health")" 200
    end_server
}

case_serve_usage() {
    expect_refusal 2 'no model' serve
    expect_refusal 2 '--port: found 65536' serve --model "$demo" --port 65536
    expect_refusal 2 'found 100000 tokens, the model has 65536 positions' serve --model "$demo" --context 100000
    expect_refusal 2 'found template "nonsense", expected one of' serve --model "$demo" --template nonsense
    expect_refusal 2 '--host 256.0.0.1' serve --model "$demo" --host 256.0.0.1
    expect_refusal 2 'no option --temperature' serve --model "$demo" --temperature 1
    expect_refusal 1 'nowhere' serve --model "$demo" --api-key-file nowhere
    printf '\n\n' >empty_keys
    expect_refusal 1 'empty_keys: found no key' serve --model "$demo" --api-key-file empty_keys
    expect_refusal 2 '--served-name' serve --model "$demo" --served-name 'a"b'
    expect_refusal 2 'expected a name in UTF-8' serve --model "$demo" --served-name $'a\xff'
    serve --context 256
    local taken=${url##*:}
    "$binary" serve --model "$demo" --context 256 --port "$taken" >out2 2>err2
    expect 'a port that is taken: status' "$?" 2
    expect_match 'a port that is taken' err2 "port $taken: cannot listen: Address already in use"
    end_server
}

# Leaves $modules, a folder with npm's openai.
need_openai() {
    need_node
    modules=$source_dir/build/openai
    [[ -d $modules/node_modules/openai ]] ||
        fail 'scripts/deps.sh check' "no $modules/node_modules/openai" 'the client'
}

case_serve_openai() {
    local modules
    need_openai
    printf 'key-1\r\nkey-2 \n' >keys
    serve --batch 4 --context 4096 --api-key-file keys --template none
    expect_get 401 '"code":"invalid_api_key"' /v1/models
    expect_get 401 'authentication_error' /v1/models -H 'Authorization: Bearer key-'
    expect_get 200 '"object":"list"' /v1/models -H 'Authorization: Bearer key-1'
    expect_get 200 '"object":"list"' /v1/models -H 'Authorization: bearer key-2'
    expect_get 200 ok /health
    # What a user wrote ends no turn: it is text beside the BOS.
    expect_get 200 '"prompt_tokens":9,' /v1/chat/completions -H 'Authorization: Bearer key-1' \
        -d '{"messages": [{"role": "user", "content": "<|eot_id|>"}], "max_tokens": 1}'
    run_node client "$modules"
    end_server
}

# Half a minute, most of which it waits.
case_serve_waiting() {
    local modules
    need_openai
    serve --batch 1 --context 60000 --request-seconds 20
    run_node waiting "$modules"
    end_server
}

case_serve_replay() {
    need_node
    # The same prompt twice is to give the same text: nothing is shared.
    serve --batch 4 --context 4096 --template none --prefix-cache 0
    run_node replay
    end_server
}

case_serve_hostile() {
    need_node
    serve --batch 4 --context 4096 --max-body 1048576
    run_node hostile
    end_server
}

# Changed requests; `make fuzz-serve` sends more of them.
case_serve_fuzz() {
    need_node
    serve --batch 4 --context 64 --max-body 65536
    run_node fuzz "${FUZZ_REQUESTS:-3000}"
    grep 'answers by status' said
    end_server
}

case_serve_life() {
    need_node
    serve --batch 2 --max-queue 2 --context 60000 --chunk-size 256
    run_node life
    end_server
    serve --batch 2 --context 60000 --request-seconds 2
    run_node deadline
    end_server
    # A client with more prompts than the server may have files hangs up.
    ulimit -S -n 200
    serve --max-queue 400 --context 60000
    curl -s -m 2 -o stream "$url/v1/completions" -d "{\"prompt\": [\"a\"$(printf ', "a"%.0s' {1..300})],
        \"max_tokens\": 50000, \"ignore_eos\": true, \"stream\": true}"
    local tries
    for ((tries = 0; tries < 600; tries++)); do
        get /metrics
        grep -Eq 'num_requests_running.* 0$' body && grep -Eq 'num_requests_waiting.* 0$' body && break
        sleep 0.1
    done
    ((tries < 600)) || fail 'requests of a client that has gone' "$(grep num_requests body)" 'none'
    [[ -s stream ]] || fail 'a stream of 301 prompts' 'nothing' 'events'
    end_server
}

case_serve_load() { # on all cores
    need_node
    serve --batch 8 --context 4096 --prefix-cache 0
    run_node load "$child" 2 12
    end_server
    # The same prompts again and again, each read once: exact attention gives the same texts where sums do
    # not depend on what they are computed with, as on the reference path.
    serve --batch 8 --context 4096 --attention full --isa ref --prefix-cache 1GiB
    run_node load "$child" 2 12
    expect_get 200 '^vllm:prefix_cache_hits_total\{model_name="demo"\} [1-9]' /metrics
    end_server
}

# What runs on when the time for it is up is ended; a second signal ends the program at once.
case_serve_drain() {
    local endless='{"prompt": "Once", "max_tokens": 50000, "ignore_eos": true, "stream": true}'
    serve --context 60000 --drain-seconds 0
    curl -sN -m 120 "$url/v1/completions" -d "$endless" >stream &
    wait_for stream '"text"'
    end_server
    wait $!
    expect_match 'a stream that is ended' stream 'service_unavailable_error'
    serve --context 60000 --drain-seconds 1000
    : >stream # now, not when the client comes to it
    curl -sN -m 120 "$url/v1/completions" -d "$endless" >stream &
    wait_for stream '"text"'
    kill -TERM "$child"
    wait_for err 'stopping'
    kill -TERM "$child"
    wait_child
    expect_status 130
    need_node
    serve --batch 2 --context 4096 --drain-seconds 1000
    run_node drain "$child"
    ((failures == 0)) || exit 1
    wait_child
    expect_status 0
}

# A signal ends the program whenever it comes: before the model is loaded, while it is, and after.
case_serve_signal() {
    local delay
    command='magicpig-pipe serve'
    for delay in 0.02 0.04 0.06 0.08 0.1 0.12 0.15 0.2 0.3; do
        "$binary" serve --model "$demo" --port 0 --drain-seconds 0 >out 2>err &
        child=$!
        sleep "$delay"
        kill -TERM "$child"
        status=0
        wait "$child" || status=$?
        child=
        # 143: it had not even started
        ((status == 0 || status == 130 || status == 143)) ||
            fail "SIGTERM after $delay s" "status $status, $(tail -c 500 err)" 'status 0, 130 or 143'
    done
}

# A model with a template: whole conversations, with the template's own variables.
case_serve_chat() {
    mkdir model
    cp "$demo"/* model
    printf '%s' '{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{{ tail }}' \
        >model/chat_template.jinja
    serve --model model --context 512
    expect_get 200 '"prompt_tokens":' /v1/chat/completions -d '{"messages": [{"role": "system",
        "content": "a"}, {"role": "user", "content": [{"type": "text", "text": "b"}]}], "temperature": 0,
        "max_tokens": 6, "chat_template_kwargs": {"tail": "!"}}'
    local chat
    chat=$(grep -oE '"content":"[^"]*"' body | cut -d'"' -f4)
    get /v1/completions -d '{"prompt": "[system]a[user]b!", "max_tokens": 6, "temperature": 0}'
    expect 'the text of a chat' "$(grep -oE '"text":"[^"]*"' body | cut -d'"' -f4)" "$chat"
    expect_get 400 'no content' /v1/chat/completions -d '{"messages": [{"role": "user"}]}'
    expect_get 200 '"content":"' /v1/chat/completions -d '{"messages": [{"role": "user", "content": "a"},
        {"role": "assistant", "tool_calls": []}, {"role": "tool", "content": "b"}], "max_tokens": 1}'
    end_server
}

# Requests of an attention that samples: what they may set, and what it cost.
case_serve_attention() {
    local text path asked
    text=$(printf 'The grass is green. The sky is blue. %.0s' {1..60})
    serve --context 2048 --attention pps --attention-samples 128 --cache-layers none
    expect_get 200 '"sampled_share":0\.[0-9]+,"sampled_rows":[0-9]+,"estimated_error":[0-9.e-]+' \
        /v1/completions -d "{\"prompt\": \"$text\", \"max_tokens\": 8}"
    expect_get 200 '"sampled_share":0\.0[0-9]+,"sampled_rows":(1[56]|17),' /v1/completions \
        -d "{\"prompt\": \"$text\", \"max_tokens\": 8, \"attention\": \"pps\", \"samples\": 16}"
    expect_get 400 'samples: found 200, expected at most 128' /v1/completions \
        -d '{"prompt": "a", "samples": 200}'
    expect_get 400 'epsilon: found 0.1, expected none.*"param":"epsilon"' /v1/completions \
        -d '{"prompt": "a", "samples": 16, "epsilon": 0.1}'
    # A method is named, and it is the one that is loaded.
    local chat='"messages": [{"role": "user", "content": "a"}], "max_tokens": 1'
    expect_get 200 '"content":"' /v1/chat/completions -d "{$chat, \"attention\": \"pps\"}"
    for path in /v1/completions /v1/chat/completions; do
        [[ $path == */chat/* ]] && asked=$chat || asked='"prompt": "a"'
        expect_get 400 'attention: found \\"full\\", but the server has loaded \\"pps\\"".*"param":"attention"' \
            $path -d "{$asked, \"attention\": \"full\"}"
        expect_get 400 'attention: expected a string.*"param":"attention"' \
            $path -d "{$asked, \"attention\": {\"method\": \"pps\"}}"
    done
    end_server
    # Where the server has an error to sample for, requests may have their own, or up to 4,096 samples.
    serve --context 2048 --attention pps --epsilon 0.1 --cache-layers none
    expect_get 200 '"estimated_error":[0-9.e-]+' /v1/completions \
        -d "{\"prompt\": \"$text\", \"max_tokens\": 8, \"attention\": \"pps\", \"epsilon\": 0.3}"
    expect_get 200 '"sampled_share":0\.0[0-9]+,"sampled_rows":(1[56]|17),' /v1/completions \
        -d "{\"prompt\": \"$text\", \"max_tokens\": 8, \"samples\": 16}"
    expect_get 200 '"finish_reason"' /v1/completions -d '{"prompt": "a", "max_tokens": 1, "samples": 4096}'
    expect_get 400 'samples: found 4097, expected at most 4096.*"param":"samples"' /v1/completions \
        -d '{"prompt": "a", "samples": 4097}'
    expect_get 400 'samples: .*"param":"samples"' /v1/completions -d '{"prompt": "a", "samples": 0}'
    expect_get 400 'epsilon: .*"param":"epsilon"' /v1/completions -d '{"prompt": "a", "epsilon": 1.5}'
    expect_get 400 'epsilon: .*"param":"epsilon"' /v1/completions -d '{"prompt": "a", "epsilon": 0}'
    end_server
}
