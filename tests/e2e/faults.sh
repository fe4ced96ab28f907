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
