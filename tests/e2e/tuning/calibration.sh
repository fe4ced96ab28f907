# Cases of the measured rates that tasks are estimated from.
# shellcheck shell=bash
# shellcheck disable=SC2154  # variables of cli_test.sh and lib.sh

kept=.cache/magicpig-pipe/calibration-$(uname -n).json

recorded() { # recorded ARGUMENT...: a run with steps that are recorded
    generate --prompt "$(story 5 60)" --gen-len 6 --eos none --devices cpu "$@"
    expect_status 0
}

calibrated() { # calibrated ARGUMENT...: and with a policy that asks for estimates
    recorded --sched dmda "$@"
}

case_calibration() {
    mkdir .cache
    calibrated
    cp out answer
    expect_lines 'first run' err 'task times were estimated' 0
    expect_json_object "$kept"
    expect_match 'setup' "$kept" '"kernels":\s*"(ref|avx2|avx512( with AMX)?)"'
    expect_match 'op' "$kept" '"sampled_attention":'
    cp "$kept" first
    calibrated
    expect_match 'second run' err \
        "^magicpig-pipe: task times were estimated from the rates of [0-9]+ ops in $PWD/$kept\$"
    ! cmp -s "$kept" first || fail 'second run' 'the same rates' 'rates of both runs'
    expect 'one file' "$(ls .cache/magicpig-pipe)" "${kept##*/}"

    # Rates of one setup say nothing of another, which replaces them.
    sed -i 's/"threads":.*,/"threads": 7777,/' "$kept"
    calibrated
    expect_lines 'another setup' err 'task times were estimated' 0
    expect_lines 'one setup' "$kept" '"threads":\s*7777' 0
    run bench decode --model "$demo" --devices cpu --context 300 --steps 1 --warmup 0 --sched dmda \
        --trace trace.json
    expect_status 0
    expect_match 'bench' err 'task times were estimated'
    expect_match 'what belongs to no run' trace.json '"(memory_read|random)"'
    expect_lines 'what belongs to no run' "$kept" '"(memory_read|random)":' 0

    # Nothing recorded, nothing changed.
    cp "$kept" before
    generate --prompt Hello --gen-len 2 --eos none --devices cpu --sched dmda
    expect_status 0
    cmp -s "$kept" before || fail 'a run of one step' 'other rates' 'the same'

    # A whole recording has the prompt's ops too.
    expect_lines 'steps' "$kept" '"prefill_attention":' 0
    calibrated --trace trace.json
    expect_match 'prompt' "$kept" '"prefill_attention":'

    # Decisions by these estimates change no answer, and StarPU keeps no models of its own.
    local scheduler
    for scheduler in dmda dmdas pheft; do
        STARPU_PERF_MODEL_DIR=$PWD/models STARPU_CALIBRATE=1 recorded --sched "$scheduler"
        expect "$scheduler" "$(<out)" "$(<answer)"
    done
    [[ -d models ]] || fail 'StarPU' 'nothing' 'a folder for its models'
    expect 'models' "$(find models -path '*codelets*' -type f)" ''
}

case_calibration_files() {
    local hello=(--model "$demo" --prompt Hello)
    mkdir .cache
    calibrated --calibration off
    [[ ! -e .cache/magicpig-pipe ]] || fail 'off' "$(find .cache)" 'no file'
    calibrated --calibration rates.json
    [[ ! -e .cache/magicpig-pipe ]] || fail 'a path' "$(find .cache)" 'no other file'
    expect_json_object rates.json
    calibrated --calibration rates.json
    expect_match 'a path' err 'task times were estimated .* in rates.json$'

    # A bad path of the user's is refused; the machine's own file hinders nobody.
    expect_refusal 2 'runtime.calibration: expected auto, off or a file.s path, found -' \
        "${hello[@]}" --calibration -
    expect_refusal 2 'runtime.calibration: absent/rates.json: cannot write to its folder: No such' \
        "${hello[@]}" --calibration absent/rates.json
    expect_refusal 1 'runtime.calibration: \.: cannot read' "${hello[@]}" --calibration .
    echo '{"threads": [' >rates.json
    expect_refusal 1 'runtime.calibration: rates.json:2:1: ' "${hello[@]}" --calibration rates.json
    mkdir -p "${kept%/*}"
    mv rates.json "$kept"

    # A policy that asks for no estimates has nothing to do with any of this.
    cp "$kept" damaged
    recorded
    expect_lines 'prio' err 'calibration|task times' 0
    cmp -s "$kept" damaged || fail 'prio' "$(<"$kept")" 'the file as it was'
    XDG_CACHE_HOME='' HOME='' recorded
    expect_lines 'prio' err 'calibration|task times' 0

    calibrated
    expect_match 'damaged' err \
        "warning: runtime.calibration: $PWD/$kept:2:1: .*; tasks were estimated from nominal rates"
    expect_json_object "$kept"
    XDG_CACHE_HOME=$PWD/absent calibrated
    expect_lines 'not written' err \
        "warning: runtime.calibration: $PWD/absent/magicpig-pipe: cannot create: No such file" 1
    [[ ! -e absent ]] || fail 'XDG_CACHE_HOME' 'created' 'left alone'
    XDG_CACHE_HOME='' HOME='' calibrated
    expect_match 'no place' err 'warning: runtime.calibration: auto keeps nothing'
}
