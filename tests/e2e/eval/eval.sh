# Cases of eval: answers, interruptions, from where the method acts.
# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # variables of cli_test.sh and lib.sh

run_eval() { # run_eval ARGUMENT...: with the demo model
    run eval --model "$demo" "$@"
}

# Prompts of some 700 tokens with short answers: two of each of the tasks.
write_prompts() { # write_prompts FILE TASKS [NEW_TOKENS]
    run make-data --model "$demo" --task "$2" --tokens 800 --samples 2 --output made.jsonl
    expect_status 0
    sed "s/\"max_new_tokens\": [0-9]*/\"max_new_tokens\": ${3:-12}/" made.jsonl >"$1"
}

# A value of every line.
values() { # values FILE KEY
    sed -E 's/.*"'"$2"'":("([^"\\]|\\.)*"|[^,}]*).*/\1/' "$1"
}

# The answers without what differs from run to run.
timeless() { # timeless FILE
    sed 's/"decode_seconds":[^}]*}$/}/' "$1"
}

# ---- the same as generate ----

# The settings below, and the same as flags of generate.
settings=('attention=full' 'lsh-k=6 lsh-l=60' 'attention=quest attention-budget=0.1 page-size=8'
    'attention=topk attention-budget=0.02' 'attention=oracle attention-budget=0.05'
    'attention=pps attention-samples=60' 'attention=streaming window-size=32')

settings_as_options() { # into $options
    local setting
    options=()
    for setting in "${settings[@]}"; do
        options+=(--setting "$setting")
    done
}

# Each of $count records has the text that generate gives it, with the flags of setting number N and what
# both were given.
expect_generated() { # expect_generated N ARGUMENT...
    local first=$(($1 * count + 1))
    shift
    rm -f generated.jsonl
    generate --input prompts.jsonl --output generated.jsonl --batch "$count" --prefill-share 1 "$@"
    expect_status 0
    expect "$command" \
        "$(sed -n "$first,$((first + count - 1))p" answers.jsonl |
            sed 's/^{"id":"\([^"]*\)".*"pred":\(.*\),"outputs".*/\1 \2/')" \
        "$(sed 's/^{"id":"\([^"]*\)","text":\(.*\),"token_ids".*/\1 \2/' generated.jsonl | sort)"
}

# Every setting says what generate says with its flags, to all prompts at once. What oracle and pps draw
# depends on the prompt here, and there on its place in the file (case_eval_drawn).
case_eval() {
    local i preset=$source_dir/configs/original/method1_K16_L64.json count=4
    write_prompts prompts.jsonl niah_single_1,vt
    settings_as_options
    run_eval --input prompts.jsonl --batch "$count" --output answers.jsonl --csv scores.csv \
        --html page.html --quiet "${options[@]}" --setting "$preset"
    expect_status 0
    expect 'stderr' "$(<err)" ''
    expect_lines 'answers' answers.jsonl '"pred":' $((8 * count))
    for i in "${!settings[@]}"; do
        [[ ${settings[i]} =~ oracle|pps ]] && continue
        # shellcheck disable=SC2046,SC2086  # a setting's words
        expect_generated "$i" --cache-layers 0 $(printf -- '--%s ' ${settings[i]})
    done
    expect_generated 7 --config "$preset"
    (($(values answers.jsonl pred | sort -u | wc -l) > count)) ||
        fail 'answers' 'the same ones with all settings' 'others with few tokens'
    expect_tables
}

# What the evaluation above has written for people.
expect_tables() {
    run_eval --input prompts.jsonl --batch 4 --output answers.jsonl "${options[@]}" \
        --setting "$source_dir/configs/original/method1_K16_L64.json"
    expect_status 0
    expect_lines 'length' out '^800 tokens, batch 4$' 1
    expect_lines 'settings' out '^  \[[1-8]\] [a-z]+.* [0-9.]+ +[0-9.]+ to [0-9.]+ ' 8
    expect_match 'full attention' out '^  \[1\] full +[0-9.]+ +[0-9.]+ to [0-9.]+ +- +- +[0-9]+ +[0-9.]+$'
    expect_match 'name' out \
        '^  \[8\] quest, budget 1024 tokens, pages of 16; dense 0, 1; sink 0, window 64; not centered '
    expect_lines 'tasks' out '^  (niah_single_1|vt) +2( +[0-9.]+){8}$' 2
    expect_match 'CSV' scores.csv \
        '^setting,context,task,prompts,score,low,high,sampled,rows,bytes_a_token,ms_a_step$'
    expect_lines 'CSV' scores.csv '^"[a-z].*",800,"(mean|niah_single_1|vt)",[24],[0-9.]+,' $((8 * 3))
    expect_match 'CSV' scores.csv '^"streaming; sink 36, window 32",800,"mean",4,'
    expect_match 'page' page.html '"kind":"scores","command":"[^"]*magicpig-pipe eval '
    expect_match 'page' page.html '"tasks":\["niah_single_1","vt"\],"lengths":\[800\]'
}

texts() { # texts FILE: by id and method
    paste -d ' ' <(values "$1" id) <(values "$1" method) <(values "$1" pred) | sort
}

# What is drawn depends on the prompt and the seed alone: not on its place, or on who is beside it.
case_eval_drawn() {
    local arguments=(--eos none --setting attention=full --setting 'attention=oracle attention-budget=0.1'
        --setting 'attention=pps attention-samples=60')
    write_prompts prompts.jsonl niah_single_1,vt
    tac prompts.jsonl >reversed.jsonl
    run_eval --input prompts.jsonl --batch 4 --output answers.jsonl --temperature 1.5 "${arguments[@]}"
    expect_status 0
    run_eval --input reversed.jsonl --batch 3 --output reversed --temperature 1.5 "${arguments[@]}"
    expect_status 0
    expect 'in another order' "$(texts reversed)" "$(texts answers.jsonl)"
    (($(values answers.jsonl pred | sort -u | wc -l) > 6)) ||
        fail 'drawn' "$(texts answers.jsonl)" 'other texts with other methods'
    # Another seed makes other answers, and the file has both; other end tokens are another question too.
    run_eval --input prompts.jsonl --batch 4 --output answers.jsonl --temperature 1.5 --seed 1 \
        "${arguments[@]}"
    expect_status 0
    expect_match 'another seed' err 'answers.jsonl: 12 answers are there of other prompts or settings$'
    (($(values answers.jsonl pred | sort -u | wc -l) > 12)) ||
        fail 'another seed' "$(texts answers.jsonl)" 'other texts'
    run_eval --input prompts.jsonl --batch 4 --output answers.jsonl --temperature 1.5 "${arguments[@]}" \
        --eos 64
    expect_status 0
    expect_match 'other end tokens' err ': 24 answers are there of other prompts or settings$'
    expect_lines 'answers' answers.jsonl '"pred":' 36
}

# ---- interruptions ----

# What the cases below ask: three settings, two prompts at a time.
evaluation=(eval --model "$demo" --input prompts.jsonl --batch 2 --setting attention=full
    --setting 'attention=topk attention-budget=0.1' --setting 'lsh-k=6 lsh-l=60')

# The file is that of a run without an end before its end, which is whole.jsonl.
expect_whole() { # expect_whole WHAT FILE
    expect "$1" "$(timeless "$2")" "$(timeless whole.jsonl)"
}

# Killed wherever it may be, EVAL_KILLS times, and started again.
case_eval_kill() {
    local i seconds kills=${EVAL_KILLS:-4}
    write_prompts prompts.jsonl niah_single_1,vt 25
    seconds=$(date +%s%N)
    run "${evaluation[@]}" --eos none --output whole.jsonl --csv whole.csv
    expect_status 0
    seconds=$((($(date +%s%N) - seconds) / 1000000))
    expect_lines 'unbroken' whole.jsonl '"pred":' 12
    RANDOM=7
    for ((i = 0; i < kills; i++)); do
        "$binary" "${evaluation[@]}" --eos none --output answers.jsonl >out 2>err &
        child=$!
        sleep "$(awk -v all="$seconds" -v x="$RANDOM" 'BEGIN { print all / 1000 * x / 32768 }')"
        kill -KILL "$child" 2>/dev/null
        wait "$child" 2>/dev/null
        child=
    done
    run "${evaluation[@]}" --eos none --output answers.jsonl
    expect_status 0
    expect_whole 'killed' answers.jsonl
    # Cut anywhere, as by a full disk.
    local size
    size=$(wc -c <whole.jsonl)
    for ((i = 0; i < 2; i++)); do
        head -c $((RANDOM * size / 32768)) whole.jsonl >answers.jsonl
        run "${evaluation[@]}" --eos none --output answers.jsonl
        expect_status 0
        expect_whole 'cut' answers.jsonl
    done
}

case_eval_interrupt() {
    write_prompts prompts.jsonl niah_single_1,vt 60
    run "${evaluation[@]}" --eos none --output whole.jsonl
    expect_status 0
    : >err
    command='eval until a signal'
    "$binary" "${evaluation[@]}" --eos none --output answers.jsonl --csv scores.csv --html page.html \
        >out 2>err &
    child=$!
    wait_for answers.jsonl '"pred":'
    kill -INT "$child"
    wait_child
    expect_status 130
    expect 'stdout' "$(<out)" ''
    expect_match 'interrupted' err 'error: interrupted$'
    [[ ! -e scores.csv && ! -e page.html ]] || fail 'interrupted' "$(ls)" 'no results'
    (($(wc -l <answers.jsonl) < 12)) || fail 'interrupted' 'all answers' 'less than 12'
    run "${evaluation[@]}" --eos none --output answers.jsonl
    expect_status 0
    expect_whole 'continued' answers.jsonl
}

# An evaluation that is finished asks nothing, and says the same; what is added is all that is asked.
case_eval_again() {
    write_prompts prompts.jsonl niah_single_1,vt
    run "${evaluation[@]}" --output answers.jsonl --csv first.csv --html first.html
    expect_status 0
    cp out first
    cp answers.jsonl first.jsonl
    run "${evaluation[@]}" --output answers.jsonl --csv second.csv --html second.html
    expect_status 0
    expect_lines 'no start of StarPU' err StarPU 0
    expect 'scores' "$(<out)" "$(<first)"
    cmp first.jsonl answers.jsonl || fail 'answers' 'other ones' 'the same'
    cmp first.csv second.csv || fail 'CSV' 'another' 'the same'
    expect 'page' "$(sed 's/"command":"[^"]*"//' second.html | sha256sum)" \
        "$(sed 's/"command":"[^"]*"//' first.html | sha256sum)"

    run "${evaluation[@]}" --output answers.jsonl --setting attention=streaming
    expect_status 0
    expect 'a setting more: before' "$(head -n 12 answers.jsonl)" "$(<first.jsonl)"
    expect_lines 'a setting more' answers.jsonl '"method":"streaming"' 4
    expect 'a setting more: lines' "$(wc -l <answers.jsonl)" 16
    expect 'a setting more: scores' "$(grep '^  \[[1-3]\]' out | sed 's/  */ /g')" \
        "$(grep '^  \[[1-3]\]' first | sed 's/  */ /g')"

    cp answers.jsonl before.jsonl
    write_prompts more.jsonl fwe
    cat more.jsonl >>prompts.jsonl
    run "${evaluation[@]}" --output answers.jsonl
    expect_status 0
    expect 'a task more: before' "$(head -n 16 answers.jsonl)" "$(<before.jsonl)"
    expect_lines 'a task more' answers.jsonl '"task":"fwe"' 6
    expect 'a task more: lines' "$(wc -l <answers.jsonl)" 22
    expect_match 'of another setting' err ': 4 answers are there of other prompts or settings$'
}

# ---- from the question on ----

of_full() { # of_full FILE KEY: of each prompt with full attention, one a line
    grep '"method":"full"' "$1" | values /dev/stdin "$2"
}

case_eval_question() {
    local from
    local arguments=(--task 'niah_single_1,fwe' --tokens 1024 --samples 1 --setting attention=full
        --setting 'attention=topk attention-budget=1' --setting attention=streaming)
    for from in answer question; do
        run_eval "${arguments[@]}" --sparse-from "$from" --output "$from.jsonl"
        expect_status 0
        expect_lines "$from" "$from.jsonl" "\"sparse_from\":\"$from\"" 6
    done
    expect 'all of a prompt' "$(of_full answer.jsonl exact_tokens)" "$(of_full answer.jsonl prompt_tokens)"
    paste -d ' ' <(of_full answer.jsonl exact_tokens) <(of_full question.jsonl exact_tokens) |
        awk '$1 - $2 < 20 || $1 - $2 > 150 { bad = 1 } END { exit bad || NR != 2 }' ||
        fail 'exact tokens' "$(of_full question.jsonl exact_tokens)" 'some less than of all the prompt'
    # What is not read exactly goes through the method, a token a step.
    for from in answer question; do
        paste -d ' ' <(values "$from.jsonl" steps) <(values "$from.jsonl" generated_tokens) \
            <(values "$from.jsonl" prompt_tokens) <(values "$from.jsonl" exact_tokens) |
            awk '$1 != $2 - 1 + $3 - $4 { bad = 1 } END { exit bad || NR != 6 }' ||
            fail "$from: steps" "$(<"$from.jsonl")" 'one for each such token'
    done
    # Full attention says the same, with the same score; so does all that topk can select.
    for from in full topk; do
        expect "$from: answers" "$(grep "\"$from\"" question.jsonl | sed 's/.*"pred"//; s/"finish.*//')" \
            "$(grep "\"$from\"" answer.jsonl | sed 's/.*"pred"//; s/"finish.*//')"
    done
    expect_lines 'needle' question.jsonl '"id":"niah_single_1-0".*"method":"full".*"score":1,' 1
    # One file has both: they are different settings.
    run_eval "${arguments[@]}" --sparse-from question --output answer.jsonl
    expect_status 0
    expect_lines 'in one file' answer.jsonl '"pred":' 12

    {
        printf '{"id": "own", "input": "%s Who sold a map?", "question": "Who", "outputs": ["x"]}\n' \
            "$(story 3 30)"
        printf '{"id": "none", "input": "%s", "outputs": ["x"]}\n' "$(story 3 30)"
    } >records.jsonl
    run_eval --input records.jsonl --gen-len 2 --sparse-from question --output own.jsonl \
        --setting attention=streaming
    expect_status 1
    expect_match 'no question' err 'error: prompt none: records.jsonl:2: no question found to be sparse from'
    expect_match 'failed' err 'error: 1 of 2 prompts could not be run$'
    expect_lines 'own question' own.jsonl '^\{"id":"own"' 1
}

# Prompts of which all but the first words are fed in as if generated: what grows old leaves the static
# caches, and is found again.
case_eval_growth() {
    run make-data --model "$demo" --task niah_single_1 --tokens 700 --samples 1 --output prompts.jsonl
    expect_status 0
    sed -i 's/^{/{"question": "A special magic number", /' prompts.jsonl
    run_eval --input prompts.jsonl --sparse-from question --output growth.jsonl \
        --setting 'attention=pps attention-samples=128' \
        --setting 'attention=pps attention-samples=128 kv-dtype=int8'
    expect_status 0
    values growth.jsonl exact_tokens | awk '$1 > 10 { bad = 1 } END { exit bad || NR != 2 }' ||
        fail 'exact tokens' "$(values growth.jsonl exact_tokens)" 'hardly any'
    values growth.jsonl sampled | awk '$1 < 0.5 || $1 > 0.95 { bad = 1 } END { exit bad || NR != 2 }' ||
        fail 'sampled' "$(values growth.jsonl sampled)" 'some of up to 500 tokens'
    expect_lines 'needles' growth.jsonl '"score":1,' 2
}

# ---- prompts are read once ----

prefill_spans() { # prefill_spans ARGUMENT...: how many the trace of an evaluation has
    rm -f answers.jsonl
    run_eval --input prompts.jsonl --trace trace.json --devices cpu --output answers.jsonl "$@"
    expect_status 0
    grep -c '"ph":"X","name":"prefill_attention"' trace.json
}

case_eval_prompts_once() {
    local once
    write_prompts prompts.jsonl vt 4
    once=$(prefill_spans --setting attention=full)
    ((once > 0)) || fail 'spans' "$once" 'some'
    settings_as_options
    expect 'seven settings' "$(prefill_spans "${options[@]}")" "$once"
    expect_lines 'answers' answers.jsonl '"pred":' 14
    expect 'seven settings, together' "$(prefill_spans --batch 2 "${options[@]}")" "$once"
    # Nothing is read for what is there.
    sed -i '/vt-1/d' answers.jsonl
    run_eval --input prompts.jsonl --trace trace.json --devices cpu --output answers.jsonl "${options[@]}"
    expect_status 0
    expect 'the second prompt' "$(grep -c '"name":"prefill_attention"' trace.json)" $((once / 2))
}
