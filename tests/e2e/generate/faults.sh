# What is left behind by runs that did not end well, and what a machine refuses.
# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # variables of cli_test.sh and lib.sh

answer() { # answer: the shortest run that starts StarPU
    generate --devices cpu --threads 1 --prompt Hello --gen-len 1 --eos none
}

# StarPU ends the program over a file of its own that is not whole, as a full disk or a kill in the
# first run leaves it.
case_starpu_torn_files() {
    local file kind lines
    export STARPU_PERF_MODEL_DIR=$PWD/measured STARPU_HOSTNAME=box
    answer
    expect_status 0
    cp -r measured whole
    for file in config affinity latency bandwidth; do
        lines=$(wc -l <"whole/bus/box.$file")
        for kind in empty line half zeros; do
            case $kind in
            empty) : ;;
            line) head -n $((lines - 1)) "whole/bus/box.$file" ;;
            half) head -c $(($(wc -c <"whole/bus/box.$file") / 2)) "whole/bus/box.$file" ;;
            zeros) head -c 64 /dev/zero ;;
            esac >"measured/bus/box.$file"
            answer
            expect_status 0
            expect "$file, $kind" "$(wc -l <"measured/bus/box.$file")" "$lines"
        done
    done
    # What is whole stays.
    touch -d '2001-01-01' measured/bus/*
    answer
    expect 'written again' "$(find measured/bus -type f -newermt 2002-01-01)" ''
    # A full disk, or a limit on file sizes, is an error beforehand.
    export STARPU_PERF_MODEL_DIR=$PWD/full
    status=0
    command='a first run without room'
    (ulimit -f 16 && "$binary" --model "$demo" --prompt Hello --gen-len 1) >out 2>err || status=$?
    check_crash "$command"
    expect_status 1
    expect_match "$command" err 'full/magicpig-pipe.lock: no room for 128 KiB, which StarPU needs'
    answer
    expect_status 0
}

# Several first runs at once, and one that another process keeps waiting.
case_starpu_first_runs() {
    local round i children
    for round in 1 2 3; do
        rm -rf home
        export STARPU_PERF_MODEL_DIR=$PWD/home/sampling
        children=()
        for i in 1 2 3 4; do
            "$binary" --model "$demo" --devices cpu --threads 1 --prompt Hello --gen-len 1 \
                >"out$i" 2>"err$i" &
            children+=($!)
        done
        for i in 1 2 3 4; do
            status=0
            command="first run $i of 4"
            wait "${children[i - 1]}" || status=$?
            cp "err$i" err
            expect_status 0
        done
    done
    flock home/sampling/magicpig-pipe.lock sh -c 'touch locked && sleep 1 && touch freed' &
    until [[ -e locked ]]; do sleep 0.01; done
    answer
    expect_status 0
    [[ -e freed ]] || fail 'a lock' 'the run did not wait for it' 'it waits'
}

# Under ulimit -v: an answer, or an error that says what there was no memory for.
case_no_memory() { # on all cores
    (ulimit -v 4000000 && "$binary" --version) >/dev/null 2>&1 || exit 77 # a sanitizer's memory
    local mib base=0 # MiB beside which the program starts: CUDA's libraries
    until (ulimit -v $(((base + 64) * 1024)) && "$binary" --version) >/dev/null 2>&1; do
        base=$((base + 50))
    done
    printf '{"id": "a", "input": "Hello"}\n{"id": "b", "input": "world"}\n' >records.jsonl
    for mib in 64 72 80 88 96 104 112 124 136 150 170; do
        rm -f answers.jsonl
        status=0
        command="ulimit -v of $base + $mib MiB"
        (ulimit -v $(((base + mib) * 1024)) && "$binary" --model "$demo" --threads 2 --input records.jsonl \
            --gen-len 2 --eos none --output answers.jsonl) >out 2>err || status=$?
        check_crash "$command"
        if ((status == 0)); then
            expect "$command" "$(ids_of answers.jsonl)" 'a b'
        elif ((status != 127)); then # the loader's
            expect_status 1
            expect_match "$command" err \
                'error: .*(of memory|[Cc]annot (map|allocate)|threads that it needs|the plan needs|not be run)'
        fi
    done
    truncate -s 400M records.jsonl
    status=0
    command='a large file under ulimit -v'
    (ulimit -v $(((base + 300) * 1024)) && "$binary" --model "$demo" --input records.jsonl) >out 2>err || status=$?
    expect_status 1
    expect_match "$command" err 'error: records.jsonl: out of memory: [0-9]+ bytes asked for to read it'
}
