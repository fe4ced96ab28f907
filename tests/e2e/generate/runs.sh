# Whole runs of the demo: presets, schedulers, workers, settings that change no answer.
# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # variables of cli_test.sh and lib.sh

case_demo_4k() { # on all cores
    demo_4k
    expect_match model err '^magicpig-pipe: llama, 8 layers'
    expect_match kernels err 'StarPU .*workers? with [0-9]+ threads.*; kernels: (ref|avx2|avx512( with AMX)?)$'
    expect_match cores err '^magicpig-pipe: cpu worker 0: cores? 0(-[0-9]+)?(;|$)'
    expect_match prompts err '^  prompts +1 request, [0-9]+ tokens in .* s: [0-9]+ tokens/s$'
    expect_match 'first token' err '^  first token +[0-9.]+ s$'
    expect_match decode err '^  generated +[0-9]+ tokens; decode [0-9.]+ ms a step, [0-9.]+ tokens/s$'
    expect_match sampled err \
        '^  sampled +[0-9.]+ % of the offloaded tokens in the mean; per layer: all( [0-9.]+){7}$'
    expect_match memory err '^  memory +peak [0-9]+ MiB, planned [0-9]+ MiB$'
    expect_match answers err '^  answers +1\.0 of 1 '
    demo_4k --quiet
    expect_lines '--quiet' err '^  ' 0
}

case_presets() { # on all cores
    local preset count=0
    make_needle
    for preset in "$source_dir"/configs/*_config.json "$source_dir"/configs/original/*.json; do
        run --config "$preset" --input needle.json
        expect_status 0
        expect_match "$preset" err '^  answers +1\.0 of 1 '
        count=$((count + 1))
    done
    expect 'presets' "$count" 11
}

# Threads that wait for each other sleep soon, unless the user says otherwise (core/machine/waiting.h).
case_spinning() {
    local wanted found
    mkfifo fifo
    for wanted in 10000 77; do
        if [[ $wanted == 77 ]]; then export GOMP_SPINCOUNT=77; else unset GOMP_SPINCOUNT; fi
        "$binary" tokenize --model "$demo" <fifo >/dev/null &
        exec 9>fifo
        for _ in {1..100}; do
            found=$(tr '\0' '\n' <"/proc/$!/environ" | sed -n 's/^GOMP_SPINCOUNT=//p')
            [[ $found == "$wanted" ]] && break
            sleep 0.05
        done
        exec 9>&-
        wait $!
        expect 'GOMP_SPINCOUNT' "$found" "$wanted"
    done
}

schedulers() { # schedulers WORKERS
    local scheduler
    for scheduler in eager lws prio dmda; do
        demo_1k --cpu-workers "$1" --sched "$scheduler"
        expect_match "$command" err "StarPU [0-9.]+, $scheduler, $1 CPU worker"
    done
}

case_one_worker() { schedulers 1; }

case_two_workers() { # on all cores
    need_two_cores
    schedulers 2
}

# A machine with a second node that is not there: its worker's memory cannot be bound, which is said
# once and changes nothing else.
case_two_nodes() { # on all cores
    [[ $(sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' /proc/self/status) == 0[-,]1* ]] || exit 77
    unset HWLOC_COMPONENTS # would go before the machine
    export HWLOC_SYNTHETIC='numa:2(indexes=0,63) core:1 pu:1' HWLOC_THISSYSTEM=1
    run bench decode --model "$demo" --devices cpu --context 16384 --steps 2 --warmup 1
    expect_status 0
    expect_match 'nodes' err '2 CPU workers with 2 threads in all \(2 NUMA nodes, 2 cores\)'
    expect_lines 'warnings' err \
        '^magicpig-pipe: warning: [0-9]+ bytes could not be bound to NUMA node (0|63): ' 1
    expect_match 'shares' out '^  CPU  sampled_attention +14\.0 '
}

# Settings that must not change an answer, and seeds.
case_settings() {
    demo_1k --chunk-size 300 --generation-budget 1 --threads 1
    expect_match 'one thread' err '^magicpig-pipe: cpu worker 0: core 0(;|$)'
    demo_1k --binding none
    expect_match 'no binding' err \
        '^magicpig-pipe: cpu worker 0: [0-9]+ threads?;.* no thread is bound$'
    demo_1k --lsh-k 0
    expect_match 'full attention' err '^  sampled +nothing: every layer attended to all tokens$'
    local text seed
    text=$(story 5 60)
    generate --prompt "$text" --gen-len 8 --eos none
    cp out flash
    generate --prompt "$text" --gen-len 8 --eos none --mem-efficient 0
    expect_status 0
    expect 'plain reference prefill' "$(<out)" "$(<flash)"
    for seed in 1 1 2; do
        generate --prompt Hello --gen-len 12 --eos none --temperature 1 --seed "$seed"
        expect_status 0
        [[ ! -e "seed$seed" ]] || expect 'the same seed again' "$(<out)" "$(<"seed$seed")"
        cp out "seed$seed"
    done
    ! cmp -s seed1 seed2 || fail 'another seed' "$(<seed2)" 'another text'
}

case_original_prompt() {
    local input=$source_dir/../shared/data/data4k.jsonl
    [[ -e $input ]] || exit 77
    run --config "$source_dir/configs/magicpig_config.json" --input "$input"
    expect_status 0
    expect "$command: stdout" "$(<out)" ': 8090293.'
}

# Later records finish first; texts still come in the records' order, whatever the batch.
case_batch() { # on all cores
    local i lengths=(12 3 8 2 6 1)
    for i in 0 1 2 3 4 5; do
        printf '{"id": "%d", "input": "%s", "max_new_tokens": %d}\n' "$i" \
            "$(story "$i" $((15 + 9 * i)))" "${lengths[i]}"
    done >records.jsonl
    generate --input records.jsonl --eos none --output one.jsonl --batch 1
    expect_status 0
    cp out one
    expect_lines 'answers with --batch 1' one . 6
    expect 'order with --batch 1' "$(ids_of one.jsonl)" '0 1 2 3 4 5'
    # Prompts are read at once: then three requests decode together.
    generate --input records.jsonl --eos none --output three.jsonl --batch 3 --micro-batches 2 \
        --prefill-share 1
    expect_status 0
    expect 'stdout of --batch 3' "$(<out)" "$(<one)"
    if [[ $(ids_of three.jsonl) == '0 1 2 3 4 5' ]]; then
        fail 'order of --output with --batch 3' '0 1 2 3 4 5' 'short requests before long ones'
    fi
    expect 'token ids' "$(sort three.jsonl | sed 's/,"prefill_seconds.*//')" \
        "$(sed 's/,"prefill_seconds.*//' one.jsonl)"
    # Read beside the decoding of others, chunk by chunk: the same texts.
    generate --input records.jsonl --eos none --batch 3 --prefill-share 0.3 --chunk-size 16
    expect_status 0
    cp out joined
    generate --input records.jsonl --eos none --batch 1 --chunk-size 16
    expect_status 0
    expect 'stdout of requests that join' "$(<joined)" "$(<out)"
}
