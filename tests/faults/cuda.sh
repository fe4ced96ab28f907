#!/usr/bin/env bash
# Lets calls of CUDA and cuBLAS fail, one a run, and judges how the run ends: cuda.sh BINARY SHIM
# SOURCE_DIR WORK_DIR. Of each function the first call, one in the middle and the last are tried.
#
# A run may end well, or with status 1 or 2 and a message of the program's own. StarPU ends the program
# itself where a call of its own fails. No run may hang, or lose an answer that was finished. Prints a
# line for each run that ended otherwise, and a table; exit status 1 if anything was wrong, 77 where
# there is no GPU.
set -uo pipefail
binary=$(realpath "$1") shim=$(realpath "$2") source_dir=$(realpath "$3") work=$4
rm -rf "$work"
mkdir -p "$work"
cd "$work" || exit 1
export STARPU_PERF_MODEL_DIR=$PWD/starpu HWLOC_COMPONENTS=-pci,-gl
ulimit -c 0

for i in 1 2 3; do
    printf '{"id": "%d", "input": "The old baker sold a lantern. The sailor hid the map.", "max_new_tokens": 4}\n' "$i"
done >records.jsonl
arguments=(--model "$source_dir/models/demo" --devices gpu --device-budget 4 --window-size 2 --eos none
    --input records.jsonl --calibration off --resume --output answers.jsonl)

run() { # run [NAME=VALUE...]: leaves $status
    status=0
    timeout -s KILL 60 env LD_PRELOAD="$shim" "$@" "$binary" "${arguments[@]}" >out 2>err || status=$?
}

answers() {
    sed -n 's/,"prefill_seconds.*}$//p' answers.jsonl 2>/dev/null | sort
}

run MP_FAIL_LOG=calls
if ((status != 0)); then
    grep -q 'no GPU\|found gpu' err && exit 77
    cat err
    exit 1
fi
answers >wanted
declare -A table=()
failures=0
while read -r name count; do
    for nth in $(printf '%d\n' 1 $(((count + 1) / 2)) "$count" | sort -un); do
        ((count > 0)) || continue
        rm -f answers.jsonl
        run MP_FAIL_CALL="$name" MP_FAIL_NTH="$nth"
        case $status in
        0) outcome='done' ;;
        1 | 2)
            outcome=error
            grep -q 'magicpig-pipe: error: ' err || outcome='no message'
            ;;
        137) outcome=hang ;;
        *)
            outcome="crash ($status)"
            grep -qi 'starpu' err && outcome='ended by StarPU'
            ;;
        esac
        answers >finished
        [[ $(comm -23 finished wanted) == '' ]] || outcome+=', another answer'
        ((status != 0)) || cmp -s finished wanted || outcome+=', lost'
        table[$outcome]=$((${table[$outcome]:-0} + 1))
        case $outcome in
        'done' | error | 'ended by StarPU') ;;
        *)
            failures=$((failures + 1))
            printf '%s, call %d of %d: %s; %s\n' "$name" "$nth" "$count" "$outcome" "$(tail -c 300 err)"
            ;;
        esac
    done
done <calls
for outcome in "${!table[@]}"; do
    printf '%6d  %s\n' "${table[$outcome]}" "$outcome"
done
((failures == 0)) || { echo "$failures calls ended badly" && exit 1; }
