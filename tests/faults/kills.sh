#!/usr/bin/env bash
# Ends runs at random moments and goes on with --resume until all is answered, again and again:
# kills.sh BINARY SOURCE_DIR WORK_DIR KILLS [SEED]
#
# Every round starts in a new home folder, so that StarPU's first measurements are cut off too. Of four
# kills two are SIGKILL, one is SIGINT and one SIGTERM. However a run ended, each line of its output is
# whole (after SIGKILL all but the last), no finished line is lost later, and the answers are those of a
# run that nobody ended; SIGINT and SIGTERM end with status 130, or 0 if they came last. Prints how the
# runs ended; exit status 1 if anything was wrong.
set -uo pipefail
binary=$(realpath "$1") source_dir=$(realpath "$2")
work=$3 kills=$4 RANDOM=${5:-1}
rm -rf "$work"
mkdir -p "$work"
cd "$work" || exit 1
exec </dev/null 2>notes # also what the shell says of kills
export HWLOC_COMPONENTS=-pci
ulimit -c 0

for i in 1 2 3 4 5 6 7 8; do
    printf '{"id": "%d", "input": "The old baker sold the barrel of %d.", "max_new_tokens": 6}\n' "$i" "$i"
done >records.jsonl
arguments=(--model "$source_dir/models/demo" --devices cpu --threads 1 --cache-layers none
    --device-budget 4 --window-size 2 --eos none --input records.jsonl --sched dmda --resume
    --output answers.jsonl --calibration calibration.json --trace trace.json --report report.html)
signals=(KILL INT KILL TERM)

failures=0
fail() { # fail WHAT
    failures=$((failures + 1))
    printf 'kill %d (%s after %s ms): %s; %s\n' "$done" "$signal" "$delay" "$1" "$(tail -c 300 err)"
}

finished() { # finished: whole lines of answers, without what differs from run to run
    [[ ! -e answers.jsonl ]] || sed -n 's/,"prefill_seconds.*}$//p' answers.jsonl | sort
}

new_home() {
    rm -rf home answers.jsonl calibration.json trace.json report.html
    mkdir home
    export HOME=$PWD/home
    unset XDG_CACHE_HOME STARPU_HOME STARPU_PERF_MODEL_DIR
}

begin=${EPOCHREALTIME/./}
"$binary" --version >out
load=$(((${EPOCHREALTIME/./} - begin) / 1000)) # ms until the program has been loaded, and more
new_home
begin=${EPOCHREALTIME/./}
"$binary" "${arguments[@]}" >out 2>err || { cat err && exit 1; }
took=$(((${EPOCHREALTIME/./} - begin) / 1000)) # ms of a whole run
finished >wanted

declare -A table=()
done=0
new_home
while ((done < kills)); do
    signal=${signals[done % 4]}
    # As often soon after the start as later.
    delay=$((RANDOM % (done % 8 < 4 ? took / 4 + 1 : took + 1)))
    finished >before
    "$binary" "${arguments[@]}" >out 2>err &
    child=$!
    sleep "$((delay / 1000)).$(printf '%03d' $((delay % 1000)))"
    kill -"$signal" "$child"
    status=0
    timeout 300 tail --pid="$child" -s 0.05 -f /dev/null || { kill -KILL "$child" && fail 'still there after 300 s'; }
    wait "$child" || status=$?
    done=$((done + 1))
    table["$signal: status $status"]=$((${table["$signal: status $status"]:-0} + 1))
    case $signal,$status in
    KILL,137 | *,0 | INT,130 | TERM,130) ;;
    # The signal came before the program had a handler.
    TERM,143) ((delay < 50 + 2 * load)) || fail 'status 143' ;;
    *) fail "status $status" ;;
    esac
    finished >after
    comm -23 before after | grep -q . && fail 'a finished line is lost'
    comm -13 wanted after | grep -q . && fail 'another answer'
    [[ $signal == KILL ]] || [[ ! -s answers.jsonl ]] || [[ -z $(tail -c 1 answers.jsonl) ]] || fail 'a line is cut'
    [[ ! -e report.html ]] || tail -c 8 report.html | grep -q '</html>' || fail 'half a report'
    [[ ! -e trace.json ]] || tail -c 4 trace.json | grep -q '}}' || fail 'half a trace'
    [[ ! -e calibration.json ]] || tail -c 4 calibration.json | grep -q '}' || fail 'half a calibration'
    # All are answered, or enough was cut off: a run that nobody ends, then another home.
    if cmp -s after wanted || ((RANDOM % 5 == 0)); then
        "$binary" "${arguments[@]}" >out 2>err || fail "the run after it: status $?"
        finished | cmp -s - wanted || fail 'not all is answered in the end'
        new_home
    fi
done
for key in "${!table[@]}"; do
    printf '%6d  %s\n' "${table[$key]}" "$key"
done | sort -k2
((failures == 0)) || { echo "$failures failures" && exit 1; }
