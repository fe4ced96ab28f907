# Cases of the measured rates that tasks are estimated from.
# shellcheck shell=bash
# shellcheck disable=SC2154  # variables of cli_test.sh and lib.sh

kept=.cache/magicpig-pipe/calibration-$(uname -n).json

calibrated() { # calibrated ARGUMENT...: a run with steps that are recorded
    generate --prompt "$(story 5 60)" --gen-len 6 --eos none --devices cpu "$@"
    expect_status 0
}

case_calibration() {
    calibrated
    cp out answer
    expect_lines 'first run' err 'task times estimated' 0
    expect_json_object "$kept"
    expect_match 'setup' "$kept" '"kernels":\s*"(ref|avx2|avx512( with AMX)?)"'
    expect_match 'op' "$kept" '"sampled_attention":'
    cp "$kept" first
    calibrated
    expect_match 'second run' err \
        "^magicpig-pipe: task times estimated from the rates of [0-9]+ ops in $PWD/$kept\$"
    ! cmp -s "$kept" first || fail 'second run' 'the same rates' 'rates of both runs'
    expect 'one file' "$(ls .cache/magicpig-pipe)" "${kept##*/}"

    # Rates of one setup say nothing of another, and stay.
    sed -i 's/"threads":.*,/"threads": 7777,/' "$kept"
    calibrated
    expect_lines 'another setup' err 'task times estimated' 0
    expect_lines 'both setups' "$kept" '"cpu_workers":' 2
    run bench decode --model "$demo" --devices cpu --context 300 --steps 1 --warmup 0
    expect_status 0
    expect_match 'bench' err 'task times estimated'

    # Nothing recorded, nothing changed.
    cp "$kept" before
    generate --prompt Hello --gen-len 2 --eos none --devices cpu
    expect_status 0
    cmp -s "$kept" before || fail 'a run of one step' 'other rates' 'the same'

    # Decisions by these estimates change no answer, and StarPU keeps no models of its own.
    local scheduler
    for scheduler in dmda dmdas pheft; do
        STARPU_PERF_MODEL_DIR=$PWD/models STARPU_CALIBRATE=1 calibrated --sched "$scheduler"
        expect "$scheduler" "$(<out)" "$(<answer)"
    done
    [[ -d models ]] || fail 'StarPU' 'nothing' 'a folder for its models'
    expect 'models' "$(find models -path '*codelets*' -type f)" ''
}

case_calibration_files() {
    local hello=(--model "$demo" --prompt Hello)
    calibrated --calibration off
    [[ ! -e .cache ]] || fail 'off' "$(find .cache)" 'no file'
    calibrated --calibration rates.json
    [[ ! -e .cache ]] || fail 'a path' "$(find .cache)" 'no other file'
    expect_json_object rates.json
    calibrated --calibration rates.json
    expect_match 'a path' err 'task times estimated .* in rates.json$'

    # A bad path of the user's is refused; the machine's own file hinders nobody.
    expect_refusal 2 'runtime.calibration: absent/rates.json: cannot write to its folder: No such' \
        "${hello[@]}" --calibration absent/rates.json
    expect_refusal 1 'runtime.calibration: \.: cannot read' "${hello[@]}" --calibration .
    echo '{"setups": [' >rates.json
    expect_refusal 1 'runtime.calibration: rates.json:2:1: ' "${hello[@]}" --calibration rates.json
    mkdir -p "${kept%/*}"
    mv rates.json "$kept"
    calibrated
    expect_match 'damaged' err \
        "warning: runtime.calibration: $PWD/$kept:2:1: .*; tasks are estimated from nominal rates"
    expect_json_object "$kept"
    XDG_CACHE_HOME=/dev/null calibrated
    expect_lines 'not written' err \
        'warning: runtime.calibration: /dev/null/.*: cannot write .*: Not a directory$' 1
    XDG_CACHE_HOME='' HOME='' calibrated
    expect_match 'no place' err 'warning: runtime.calibration: auto keeps nothing'
}
