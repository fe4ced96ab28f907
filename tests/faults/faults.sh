#!/usr/bin/env bash
# Lets every single thing fail that a short run asks of the system, one a run, and judges how the run
# ends: faults.sh BINARY SHIM SOURCE_DIR WORK_DIR [STEP [FIRST [KIND...]]]
#
# Every STEP-th fault is tried, from FIRST (1) on. KINDs: `alloc`, the first allocation of each place
# in the program and its libraries (fail_alloc.c); `memory`, that one and all after it; and system
# calls of which the N-th fails, by strace: mmap, openat, read, write, fsync, rename, clone3.
#
# A run may end well, or with an error, a message and a status of 1 or 2; OpenMP's own exits count as
# errors. It may not crash, hang, leave a file that is not whole, or lose a request that was finished:
# with --resume and no fault the rest is answered. Libraries that get no memory may. Prints a table of
# outcomes, and what was wrong; exit status 1 if anything was, 77 if nothing can be tried here.
set -uo pipefail
binary=$(realpath "$1") program=$(basename "$1") shim=$(realpath "$2") source_dir=$(realpath "$3")
work=$4 step=${5:-1} first=${6:-1}
kinds=("${@:7}")
((${#kinds[@]} > 0)) || kinds=(alloc memory mmap openat read write fsync rename clone3)
rm -rf "$work"
mkdir -p "$work"
cd "$work" || exit 1
exec </dev/null 2>notes # also what the shell says of crashes
# With the last one the program does not start itself again, out of sight of the shim.
export STARPU_PERF_MODEL_DIR=$PWD/starpu HWLOC_COMPONENTS=-pci,-gl GOMP_SPINCOUNT=1000
ulimit -c 0

printf '{"id": "a", "input": "Hello world", "max_new_tokens": 2}\n{"id": "b", "input": "The old baker sold", "max_new_tokens": 3}\n' >records.jsonl
# Sparse layers, a policy with models and every file that a run writes.
arguments=(--model "$source_dir/models/demo" --devices cpu --cache-layers none
    --device-budget 4 --window-size 2 --eos none --input records.jsonl --sched dmda --resume
    --output answers.jsonl --calibration calibration.json)
traced=(--threads 1 --trace trace.json --report report.html)

answers() { # answers FILE: what was answered, without what differs from run to run
    sed -n 's/,"prefill_seconds.*}$//p' "$1" | sort
}

run() { # run COMMAND...: leaves $status
    rm -f answers.jsonl calibration.json trace.json report.html fault
    status=0
    # On a machine with much else to do a run of a second may take a minute.
    timeout -s KILL 120 "$@" "$binary" "${arguments[@]}" "${traced[@]}" >out 2>err || status=$?
}

run env
((status == 0)) || { cat err; exit 1; }
answers answers.jsonl >wanted

inject() { # inject KIND N: one run with that fault
    case $1 in
    alloc) run env LD_PRELOAD="$shim" MP_FAIL_LOG=fault MP_FAIL_PLACE="$2" ;;
    memory) run env LD_PRELOAD="$shim" MP_FAIL_LOG=fault MP_FAIL_PLACE="$2" MP_FAIL_ONWARDS=1 ;;
    *) run strace -f -qq -o calls -e trace="${calls[$1]}" -e "inject=${calls[$1]}:error=${errors[$1]}:when=$2" ;;
    esac
}

declare -A calls=([mmap]=mmap [openat]=openat ['read']='read,pread64' [write]=write [fsync]=fsync
    [rename]=rename [clone3]=clone3)
declare -A errors=([mmap]=ENOMEM [openat]=EMFILE [read]=EIO [write]=ENOSPC [fsync]=EIO [rename]=EACCES
    [clone3]=EAGAIN)

most_calls() { # most_calls: of any thread, by what strace has written
    grep -v '+++\|---\|resumed' calls |
        awk '{ n = ++count[$1]; if (n > most) most = n } END { print most + 0 }'
}

count() { # count KIND: how many there are; strace counts them for each thread by itself
    case $1 in
    alloc | memory)
        run env LD_PRELOAD="$shim" MP_FAIL_LOG=fault MP_FAIL_PLACE=1000000
        sed -n 's/^places //p' fault
        ;;
    *)
        run strace -f -qq -o calls -e trace="${calls[$1]}"
        most_calls
        ;;
    esac
}

before() { # before KIND: how many of them come before the program: the loader's
    [[ $1 == alloc || $1 == memory ]] && echo 0 && return
    strace -f -qq -o calls -e trace="${calls[$1]}" "$binary" --version >out
    most_calls
}

asked_by() { # the library whose allocation failed
    local object
    object=$(sed -n 's/^failed \([^ ]*\) .*/\1/p' fault 2>/dev/null)
    echo "${object%%.so*}"
}

whole() { # whole FILE END: not there, or with that end
    [[ ! -e $1 ]] || tail -c 40 "$1" | grep -q -- "$2"
}

judge() { # judge: how the last run ended
    local outcome
    case $status in
    0) outcome='done' ;;
    1 | 2)
        outcome=error
        grep -Eq 'error|libgomp: ' err || outcome='no message'
        ;;
    137) outcome=hang ;;
    *)
        outcome="crash ($status)"
        grep -q '^\[starpu\]' err && outcome+=' by StarPU'
        ;;
    esac
    if ! whole report.html '</html>' || ! whole trace.json '}}$' || ! whole calibration.json '}'; then
        outcome+=', torn file'
    fi
    if ((status == 0)) && ! answers answers.jsonl | cmp -s - wanted; then
        outcome+=', lost'
    elif [[ -s answers.jsonl ]]; then
        answers answers.jsonl >finished
        "$binary" "${arguments[@]}" --threads 1 >out2 2>err2
        answers answers.jsonl | cmp -s - wanted || outcome+=', not resumed'
        answers answers.jsonl | sort - finished | uniq -d | cmp -s - finished || outcome+=', lost'
    fi
    echo "$outcome"
}

failures=0
declare -A table=()
for kind in "${kinds[@]}"; do
    traced[1]=$([[ $kind == clone3 ]] && echo 2 || echo 1) # threads
    if [[ $kind != alloc && $kind != memory ]] && ! strace -o calls true 2>/dev/null; then
        echo "$kind: skipped, strace cannot trace here"
        continue
    fi
    total=$(count "$kind")
    ((total > 0)) || { echo "$kind: none found, expected some" && exit 1; }
    for ((n = $(before "$kind") + first; n <= total; n += step)); do
        inject "$kind" "$n"
        outcome=$(judge)
        by=$(asked_by)
        key="$kind${by:+ of $by}: $outcome"
        table[$key]=$((${table[$key]:-0} + 1))
        if [[ $outcome != 'done' && $outcome != error ]]; then
            # A library that aborts or loops where it gets no memory, or loses a file that was just there,
            # cannot be kept from it; what it needs is asked for before.
            if [[ $outcome == crash*StarPU || ($outcome == @(crash|hang)* && -n $by && $by != "$program") ]]; then
                continue
            fi
            failures=$((failures + 1))
            printf '%s %d: %s; %s\n' "$kind" "$n" "$outcome" "$(cat fault 2>/dev/null) $(tail -c 300 err)"
        fi
    done
done
for key in "${!table[@]}"; do
    printf '%6d  %s\n' "${table[$key]}" "$key"
done | sort -k2
((${#table[@]} > 0)) || exit 77
((failures == 0)) || { echo "$failures faults ended badly" && exit 1; }
