#!/usr/bin/env bash
# Looks for inputs that crash, hang or confuse what reads what others wrote: fuzz.sh SECONDS [TARGET...]
# gives each target of tests/fuzz that many seconds, fuzz.sh --runs COUNT [TARGET...] so many inputs. What
# is found lies in build/fuzz/found; with its fix it goes to tests/fuzz/corpus/TARGET, which the tests run.
# Exit status 1 if anything was found.
set -euo pipefail
cd "$(dirname "$0")/.."
usage='usage: fuzz.sh SECONDS|--runs COUNT [TARGET...]'
amount=${1:?$usage}
shift
if [[ $amount == --runs ]]; then
    limit=-runs=${1:?$usage}
    amount="$1 runs"
    shift
else
    limit=-max_total_time=$amount
    amount+=' s'
fi
scripts/deps.sh fuzz

build=build/fuzz
CC=clang cmake -G Ninja -S tests/fuzz -B $build >$build.log || { cat $build.log && exit 1; }
cmake --build $build
mkdir -p $build/found
targets=("$@")
if ((${#targets[@]} == 0)); then
    mapfile -t targets < <(ls $build/seeds)
fi

found=0
for target in "${targets[@]}"; do
    mkdir -p $build/corpus/"$target"
    seeds=()
    while read -r folder; do
        [[ -d $folder ]] && seeds+=("$folder")
    done < <(tr ';' '\n' <$build/seeds/"$target")
    echo "== $target, $amount"
    # The corpus that grows, and where it starts.
    if ! $build/fuzz_"$target" "$limit" -timeout=20 -rss_limit_mb=2048 \
        -print_final_stats=1 -artifact_prefix=$build/found/"$target"- \
        $build/corpus/"$target" "${seeds[@]}" >$build/"$target".log 2>&1; then
        tail -n 40 $build/"$target".log
        found=1
    fi
    sed -n 's/^stat::\(number_of_executed_units\|average_exec_per_sec\): */\1 /p' $build/"$target".log
done
exit $found
