# Traces.
# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # variables of cli_test.sh and lib.sh

# A short run with a trace and the options given: every op has its spans, in order on its track.
expect_trace() {
    local op sampled
    generate --prompt "$(story 3 60)" --gen-len 4 --eos none --trace trace.json "$@"
    expect_status 0
    sampled=$(sed -n 's/^  sampled  *\([0-9.]*\) %.*/\1/p' err)
    expect_json_object trace.json
    expect_lines 'one list of events' trace.json '"traceEvents":\[' 1
    for op in embed projection hashing table_build table_lookup sampled_attention static_attention \
        prefill_attention output ffn offload lm_head sample; do
        expect_match "spans of $op" trace.json "\"ph\":\"X\",\"name\":\"$op\",\"pid\":1,\"tid\":[0-9]+,"
    done
    # One sample a step, whose mean is the summary's.
    expect 'sampled' \
        "$(sed -n 's/.*"ph":"C","name":"sampled %".*"value":\([0-9.]*\)}}.*/\1/p' trace.json |
            awk '{ sum += $1 } END { printf "%d %.2f", NR, sum / NR }')" "3 $sampled"
    # A worker runs one task at a time: its spans are in order and do not overlap.
    sed -n 's/.*"ph":"X".*"tid":\([0-9]*\),"ts":\([0-9.]*\),"dur":\([0-9.]*\),.*/\1 \2 \3/p' \
        trace.json >spans
    expect 'spans out of order or over the one before' \
        "$(awk '$2 < end[$1] - 0.001 { bad++ } { end[$1] = $2 + $3 } END { print (NR > 0), bad + 0 }' spans)" \
        '1 0'
}

case_trace() { # on all cores
    local workers
    workers=$(($(nproc) > 1 ? 2 : 1))
    expect_trace --devices cpu --cpu-workers "$workers"
    expect_lines 'tracks' trace.json '"thread_name".*"name":"cpu worker [0-9]+"' "$workers"
    expect_trace # with the GPU, where there is one

    # A trace that cannot be written is refused before the work.
    generate --prompt Hello --gen-len 2 --eos none --trace absent/trace.json
    expect_status 2
    expect_match 'trace' err 'error: trace.file: absent/trace.json: cannot open for writing'
}

case_fxt() {
    generate --prompt "$(story 3 60)" --gen-len 6 --eos none --fxt fxt --fxt-steps 2
    if grep -q 'without FxT' err; then
        expect_status 2
        expect_match 'no FxT' err \
            'error: trace.fxt: found fxt, but this StarPU \([0-9.]+\) was built without FxT; .*build-starpu'
        expect 'working directory' "$(echo *)" 'err out'
        return
    fi
    expect_status 0
    expect 'working directory' "$(echo *)" 'err fxt out'
    [[ -s fxt/prof_file_0 ]] || fail 'raw trace' "$(ls fxt)" 'prof_file_0, not empty'
    expect 'Paje' "$(head -n 1 fxt/paje.trace | cut -c 1-9)" '%EventDef'
    expect_match 'projection' fxt/paje.trace projection
    expect_match 'sampled_attention' fxt/paje.trace sampled_attention
    # Two decode steps and no prompt.
    expect_lines 'steps' fxt/tasks.rec '^Name: sample$' 2
    expect_lines 'prompt' fxt/tasks.rec '^Name: prefill_attention$' 0

    run bench decode --model "$demo" --context 200 --warmup 2 --steps 3 --fxt bench --fxt-steps 3
    expect_status 0
    expect_lines 'timed steps' bench/tasks.rec '^Name: sample$' 3
    expect_refusal 2 'trace.fxt: found bench with --compare' \
        bench decode --model "$demo" --context 200 --compare --fxt bench

    generate --prompt Hello --gen-len 3 --eos none --fxt short
    expect_status 0
    expect_match 'too few steps' err 'warning: trace.fxt: short: nothing recorded: found 2 decode'
    expect_refusal 2 'trace.fxt: absent/fxt: cannot create' \
        --model "$demo" --prompt Hello --fxt absent/fxt
    local long
    printf -v long '%0200d' 0
    expect_refusal 2 'trace.fxt: 0+: found a path of 200 bytes, but StarPU takes at most [0-9]+' \
        --model "$demo" --prompt Hello --fxt "$long"
    expect 'working directory' "$(echo *)" 'bench err fxt out short'
}
