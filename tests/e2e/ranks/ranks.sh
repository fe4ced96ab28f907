# Several ranks: the program under mpirun.
# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # variables of cli_test.sh and lib.sh

# As root and with more ranks than cores, as continuous integration has it. MPI leaks, which the
# address sanitizer would count against the program. All ends in two minutes, or hangs.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
launcher=(timeout --kill-after=5 120 mpirun --oversubscribe --bind-to none)
# At an end that is not good it would wait two seconds before it kills what is left, and if nothing is.
export OMPI_MCA_odls_base_sigkill_timeout=0

need_mpi() {
    if [[ ! -e $(dirname "$binary")/libmagicpig-mpi.so ]] || ! command -v mpirun >/dev/null; then
        echo 'skipped: built without MPI, or no mpirun'
        exit 77
    fi
    export ASAN_OPTIONS=detect_leaks=0
}

run_ranks() { # run_ranks COUNT ARGUMENT...: leaves out, err and $status
    local count=$1
    shift
    status=0
    command="mpirun -n $count magicpig-pipe $*"
    command=${command:0:300}
    "${launcher[@]}" -n "$count" "$binary" "$@" >out 2>err || status=$?
    check_crash "$command"
}

# What a run is judged by: without its times.
answers_of() {
    sed -E 's/"(prefill|decode)_seconds":[^,]*,//g' "$1" | sort
}

expect_same_answers() { # expect_same_answers COUNT ARGUMENT...: of as many ranks as of one
    local count=$1
    shift
    rm -f one.jsonl several.jsonl
    run "$@" --prefix-cache 0 --output one.jsonl # ranks share no prefixes
    expect_status 0
    cp out one
    run_ranks "$count" "$@" --output several.jsonl
    expect_status 0
    expect "$command: stdout" "$(<out)" "$(<one)"
    expect "$command: answers" "$(answers_of several.jsonl)" "$(answers_of one.jsonl)"
    expect_lines "$command: one summary" err '^  generated ' 1
}

make_questions() { # two records of 378 tokens and two short ones: questions.jsonl
    "$source_dir/scripts/make-needle.sh" -b 900 -s 5 >needle.json
    {
        tr -d '\n' <needle.json && echo
        printf '{"id": "short", "input": "%s", "max_new_tokens": 5}\n' "$(story 3 12)"
        printf '{"id": "stop", "input": "%s", "stop": ["."]}\n' "$(story 5 40)"
        tr -d '\n' <needle.json | sed 's/"index": *0/"index": 7/' && echo
    } >questions.jsonl
}

demo_config=(--config "$source_dir/configs/magicpig_config.json")

case_ranks() { # on all cores
    need_mpi
    make_questions
    local arguments=("${demo_config[@]}" --threads 1 --input questions.jsonl) method
    for method in magicpig 'pps --attention-samples 128' full; do
        # shellcheck disable=SC2086  # words of a flag
        expect_same_answers 2 "${arguments[@]}" --batch 1 --attention $method
        # shellcheck disable=SC2086
        expect_same_answers 2 "${arguments[@]}" --batch 2 --micro-batches 2 --attention $method
    done
    # Drawn tokens, and samples that follow the error.
    expect_same_answers 2 "${arguments[@]}" --attention pps --epsilon 0.05 --temperature 1 --seed 3 \
        --kv-dtype int8
    # Tokens that leave the static cache; an input that only rank 0 can read.
    arguments=("${demo_config[@]}" --threads 1 --attention pps --generation-budget 8 --gen-len 40
        --eos none)
    run "${arguments[@]}" --prefix-cache 0 --input questions.jsonl
    cp out one
    run_ranks 2 "${arguments[@]}" --input - <questions.jsonl
    expect_status 0
    expect 'standard input: stdout' "$(<out)" "$(<one)"
}

case_ranks_4k() { # on all cores
    need_mpi
    expect_same_answers 2 "${demo_config[@]}" --threads 1 --input "$source_dir/configs/data4k.json"
}

# Four KV heads: one a rank, or one or two; two a rank, with a worker for each.
case_ranks_heads() { # on all cores
    need_mpi
    command -v node >/dev/null || { echo 'skipped: no node' && exit 77; }
    node "$source_dir/tests/e2e/ranks/repeat_heads.mjs" "$demo" model 2
    make_questions
    local arguments=("${demo_config[@]}" --model model --input questions.jsonl --batch 2
        --gen-len 6)
    expect_same_answers 4 "${arguments[@]}" --threads 1 --attention magicpig
    expect_same_answers 4 "${arguments[@]}" --threads 1 --attention pps --attention-samples 128
    expect_same_answers 3 "${arguments[@]}" --threads 1 --attention quest
    if (($(nproc) > 1)); then
        expect_same_answers 2 "${arguments[@]}" --threads 2 --cpu-workers 2
    fi
}

# The n-th exchange of one rank and that of the other are the same messages: neither ends before both
# have begun, on any clock that is right.
expect_exchanges_overlap() { # expect_exchanges_overlap TRACE SLACK: microseconds the clocks may be off
    local rank
    for rank in 1 2; do
        sed -nE "s/.*\"ph\":\"X\",\"name\":\"exchange\",\"pid\":$rank,.*\"ts\":([0-9.]+),\"dur\":([0-9.]+),.*/\\1 \\2/p" \
            "$1" | sort -n >"exchanges$rank"
    done
    expect 'as many exchanges' "$(wc -l <exchanges1)" "$(wc -l <exchanges2)"
    expect 'exchanges that do not overlap' "$(paste -d ' ' exchanges1 exchanges2 |
        awk -v slack="$2" '$1 > $3 + $4 + slack || $3 > $1 + $2 + slack { bad++ } END { print (NR > 0), bad + 0 }')" '1 0'
}

case_ranks_trace() { # on all cores
    need_mpi
    local op rank offset trip
    local one=(--model "$demo" --threads 1 --attention pps --eos none --prompt "$(story 3 60)")
    # Rank 0's command line decides.
    run_ranks 1 "${one[@]}" --gen-len 6 --trace trace.json --report page.html : \
        -n 1 "$binary" "${one[@]}" --gen-len 6
    expect_status 0
    expect_json_object trace.json
    expect_lines 'processes' trace.json '"process_name"' 2
    expect_match 'rank 0' trace.json '"process_name","pid":1,"args":\{"name":"magicpig-pipe"\}'
    expect_match 'rank 1' trace.json '"process_name","pid":2,"args":\{"name":"magicpig-pipe, rank 1"\}'
    for op in projection code_select sampled_attention exchange output ffn prefill_attention; do
        for rank in 1 2; do
            expect_match "$op of process $rank" trace.json "\"name\":\"$op\",\"pid\":$rank,"
        done
    done
    # One machine has one clock: what the ranks make of it is off by half a round trip at most.
    read -r offset trip < <(sed -nE \
        's/.*"clocks":\[\{"rank":1,"offset_us":(-?[0-9.]+),"round_trip_us":([0-9.]+)\}\].*/\1 \2/p' trace.json)
    expect "offset $offset us of a round trip of $trip us" \
        "$(awk -v o="$offset" -v t="$trip" 'BEGIN { print (t > 0 && t >= 2 * (o < 0 ? -o : o)) }')" 1
    expect_exchanges_overlap trace.json "$trip"
    expect_match 'tracks of the page' page.html '^\{"rank":1,"kind":"cpu","name":"cpu worker 0"'

    # What an interrupted run has done.
    start_ranks "${one[@]}" --gen-len 3000 --trace cut.json
    wait_for out '[a-z]{3}'
    kill -INT "$(rank_process "$child" 0)"
    wait_child
    expect_status 130
    expect_json_object cut.json
    expect_lines 'processes' cut.json '"process_name"' 2
    expect_exchanges_overlap cut.json "$trip"
}

case_ranks_bench() { # on all cores
    need_mpi
    run_ranks 2 bench decode --model "$demo" --threads 1 --context 300 --steps 3 --warmup 1 --json
    expect_status 0
    expect_match 'ranks' out '"ranks":\s*2,'
    expect_match 'round trip' out '"round_trip_seconds":\s*[0-9.]+(e-[0-9]+)?,$'
    expect_match 'round trip' err '2 ranks; a message and its answer take [0-9]+ us$'
}

expect_ranks_error() { # expect_ranks_error STATUS PATTERN: of the last run, once and nothing else
    expect_status "$1"
    expect "$command: stdout" "$(<out)" ''
    expect_lines "$command" err '^magicpig-pipe.*error: ' 1
    expect_match "$command" err "^magicpig-pipe: error: $2"
}

case_ranks_usage() {
    need_mpi
    local one=(--model "$demo" --prompt 'The old baker')
    run_ranks 3 "${one[@]}"
    expect_ranks_error 2 'found 3 ranks, expected at most 2: each keeps KV heads of its own, and the model has 2'
    run_ranks 2 serve --model "$demo"
    expect_ranks_error 2 'serve: found 2 ranks, expected one process'
    run_ranks 2 "${one[@]}" --kv-dir kept
    expect_ranks_error 2 'runtime.kv_dir: found with 2 ranks, expected one process'
    run_ranks 2 "${one[@]}" --prefix-cache 1MiB
    expect_ranks_error 2 'runtime.prefix_cache: found with 2 ranks, expected one process'
    run_ranks 2 "${one[@]}" --gen-ln 3
    expect_ranks_error 2 'generate has no option --gen-ln'
    run_ranks 2 --model nowhere --prompt x
    expect_ranks_error 2 'model "nowhere": no directory'
    run_ranks 2 --model "$demo" --input nowhere.jsonl
    expect_ranks_error 2 '--input: nowhere.jsonl: cannot open'
    # Of one rank alone.
    run_ranks 1 "${one[@]}" : -n 1 "$binary" --model nowhere --prompt x
    expect_ranks_error 1 'rank 1: model "nowhere": no directory'
    run_ranks 1 "${one[@]}" : -n 1 "$binary" "${one[@]}" --lsh-seed 3
    expect_ranks_error 1 'rank 1: attention.seed: found 3, expected 0 as on rank 0'
    run_ranks 1 "${one[@]}" : -n 1 "$binary" "${one[@]}" --memory-limit 10MiB
    expect_ranks_error 1 'rank 1: memory: the plan needs .* but memory_limit is 10.00 MiB'
    run_ranks 1 "${one[@]}" --memory-limit 10MiB : -n 1 "$binary" "${one[@]}"
    expect_ranks_error 1 'memory: the plan needs .* but memory_limit is 10.00 MiB'
    # A launcher of one process is none; without the module, several cannot be.
    run_ranks 1 "${one[@]}" --gen-len 3
    expect_status 0
    mkdir alone && cp "$binary" alone
    status=0 command='without MPI'
    OMPI_COMM_WORLD_SIZE=2 "./alone/$(basename "$binary")" "${one[@]}" >out 2>err || status=$?
    expect_ranks_error 1 'this is one of several processes of an MPI launcher, but this program was built without MPI'
}

rank_process() { # rank_process MPIRUN RANK: its process id, once it is there
    local process
    for process in $(pgrep -P "$1"); do
        if tr '\0' '\n' <"/proc/$process/environ" 2>/dev/null | grep -qx "OMPI_COMM_WORLD_RANK=$2"; then
            echo "$process"
        fi
    done
}

start_ranks() { # start_ranks ARGUMENT...: two of them in the background, as $child
    command="mpirun -n 2 magicpig-pipe $*"
    mpirun --oversubscribe --bind-to none -n 2 "$binary" "$@" >out 2>err &
    child=$!
}

# However a rank ends, all of them do, and what has been answered stays.
case_ranks_kill() { # on all cores
    need_mpi
    local i rank process before delay took
    for i in 1 2 3 4 5 6; do
        printf '{"id": "%d", "input": "%s", "max_new_tokens": 24}\n' "$i" "$(story "$i" 30)"
    done >records.jsonl
    local arguments=(--model "$demo" --threads 1 --window-size 16 --device-budget 20 --eos none
        --batch 2 --input records.jsonl)
    took=${EPOCHREALTIME/./}
    run_ranks 2 "${arguments[@]}" --output whole.jsonl
    took=$((${EPOCHREALTIME/./} - took)) # us
    expect_status 0
    RANDOM=1
    for i in 1 2 3 4 5 6 7 8; do
        # A round starts anew once all is answered.
        (($(cat answers.jsonl 2>/dev/null | wc -l) < 6)) || rm -f answers.jsonl
        before=$(cat answers.jsonl 2>/dev/null)
        # For half of them with a second in which who is told to end may do so by itself.
        export OMPI_MCA_odls_base_sigkill_timeout=$((i > 4))
        start_ranks "${arguments[@]}" --output answers.jsonl --resume
        delay=$((took / 8 * (RANDOM % 8)))
        sleep "$(printf '%d.%06d' $((delay / 1000000)) $((delay % 1000000)))"
        rank=$((i % 2))
        process=$(rank_process "$child" "$rank")
        [[ -z $process ]] || kill -KILL "$process"
        # wait_child would take a killed rank for a crash.
        timeout 60 tail --pid="$child" -s 0.05 -f /dev/null || fail "kill $i" 'a run that goes on' 'its end'
        status=0
        wait "$child" || status=$?
        child=
        if ((status != 0)); then
            expect_match "kill $i" err "rank $rank .*signal 9"
        fi
        expect "kill $i: lines that were there" "$(head -c ${#before} answers.jsonl 2>/dev/null)" "$before"
    done
    run_ranks 2 "${arguments[@]}" --output answers.jsonl --resume
    expect_status 0
    expect 'answers in the end' "$(answers_of answers.jsonl)" "$(answers_of whole.jsonl)"
}

# Rank 0 is told to stop; the others end with it.
case_ranks_interrupt() {
    need_mpi
    local i
    for i in 1 2; do
        printf '{"id": "%d", "input": "%s"}\n' "$i" "$(story "$i" 30)"
    done >records.jsonl
    start_ranks --model "$demo" --threads 1 --eos none --gen-len 3000 --input records.jsonl
    wait_for out '[a-z]{3}'
    kill -INT "$(rank_process "$child" 0)"
    wait_child
    expect_status 130
    expect_match 'interrupted' err 'error: interrupted: 0 of 2 requests finished'
}
