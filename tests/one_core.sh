#!/usr/bin/env bash
# Runs a test on a core of its own: one_core.sh FOLDER COMMAND...
# Tests that run side by side, each with a team of threads on the same cores, wait for each other's threads
# all the time. FOLDER is where those of one build see which cores are taken; if all are, or if there is a
# GPU, whose threads want cores too, the command has all of them. ONE_CORE tells it which it has.
set -euo pipefail
folder=$1
shift
[[ ! -e /dev/nvidiactl ]] || exec "$@"
mkdir -p "$folder"
while read -r core; do
    exec {lock}>"$folder/$core"
    if flock --nonblock "$lock"; then
        export ONE_CORE=$core
        exec taskset --cpu-list "$core" "$@" # which has the lock until it ends
    fi
done < <(taskset --pid --cpu-list $$ | sed 's/.*: //' | tr ',' '\n' |
    awk -F- '{ for (c = $1; c <= $NF; c++) print c }' | shuf)
exec "$@"
