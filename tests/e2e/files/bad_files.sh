# Cases that feed every file under tests/data/bad to the program.
# shellcheck shell=bash
# shellcheck disable=SC2154  # variables of cli_test.sh and lib.sh

# What expected.json says: lines of a file's name, a tab, and a part of its message.
expected_messages() { # expected_messages KIND
    sed -n 's/^ *"\([^"]*\)": "\(.*\)",\{0,1\}$/\1\t\2/p' "$bad/$1/expected.json" | sed 's/\\"/"/g'
}

expect_message() { # expect_message PART: after a run that must have failed
    ((status != 0)) || fail "$command" 'status 0' 'a failure'
    grep -Fq -- "$1" err || fail "$command" "$(tail -c 1000 err)" "$1"
}

# A model directory like the demo's, but for one file.
make_model() { # make_model DIRECTORY REPLACED...
    local file
    mkdir "$1"
    for file in "$demo"/*; do
        ln -s "$file" "$1"
    done
    (cd "$1" && rm -f "${@:2}")
}

each_bad_file() { # each_bad_file KIND FUNCTION: calls it with each file and its message
    local name part count=0
    while IFS=$'\t' read -r name part; do
        "$2" "$bad/$1/$name" "$part"
        count=$((count + 1))
    done < <(expected_messages "$1")
    expect "$1: files" "$count" "$(find "$bad/$1" -type f ! -name 'expected.*' | wc -l)"
}

bad_config() {
    expect_refusal 2 "${1##*/}" --config "$1" --model "$demo" --prompt Hello
    expect_message "$2"
}

bad_records() {
    generate --input "$1" --gen-len 1
    expect_status 1
    expect_match "$command" err "error: .*${1##*/}"
    expect_message "$2"
}

bad_tokenizer() {
    cp "$1" model/tokenizer.json
    expect_refusal 1 'model/tokenizer.json' --model model --prompt Hello
    expect_message "$2"
    expect_refusal 1 'model/tokenizer.json' tokenize --model model
}

bad_safetensors() {
    cp "$1" model/model.safetensors
    run --model model --prompt Hello
    expect_status 1
    expect stdout "$(<out)" ''
    expect_match "$command" err 'error: .*model.safetensors'
    expect_message "$2"
}

bad_model_config() {
    cp "$1" model/config.json
    expect_refusal 1 'config.json' --model model --prompt Hello
    expect_message "$2"
}

case_bad_config() { each_bad_file config bad_config; }
case_bad_records() { each_bad_file records bad_records; }

case_bad_tokenizer() {
    make_model model tokenizer.json
    each_bad_file tokenizer bad_tokenizer
}

case_bad_safetensors() {
    make_model model 'model.safetensors.index.json' model-0000{1,2}-of-00002.safetensors
    each_bad_file safetensors bad_safetensors
}

case_bad_model_config() {
    make_model model config.json
    expected_messages() { cut -f 1,3 "$bad/model_config/expected.txt"; }
    each_bad_file model_config bad_model_config
}

# What a message quotes is cut between characters: its line of --output stays JSON.
case_cut_messages() {
    local key line
    key=a$(printf 'é%.0s' {1..60})
    printf '{"id": "value", "input": "x", "max_new_tokens": "%s"}\n{"id": "key", "%s": 1, "%s": 2}\n' \
        "$key" "$key" "$key" >$'caf\xe9.jsonl'
    generate --input $'caf\xe9.jsonl' --output answers.jsonl
    expect_status 1
    expect_lines 'errors' answers.jsonl '"error":"' 2
    while read -r line; do
        printf '%s\n' "$line" >line.json
        expect_json_object line.json
    done <answers.jsonl
}
