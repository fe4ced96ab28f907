#!/usr/bin/env bash
# The command line from the outside: cli_test.sh BINARY SOURCE_DIR WORK_DIR CASE
# A case is a function case_<CASE> of one of the files sourced below. Exit status: 0 passed, 1 failed,
# 77 skipped.
# shellcheck disable=SC2034,SC2154  # what the sourced files use and define
set -uo pipefail
binary=$(realpath "$1")
source_dir=$(realpath "$2")
case_name=$4
work=$3/$case_name
rm -rf "$work"
mkdir -p "$work"
cd "$work" || exit 1
exec </dev/null
# Nothing goes to the tester's home. All cases share what StarPU measures of the machine's buses.
export XDG_CACHE_HOME=$PWD/.cache STARPU_PERF_MODEL_DIR=${PWD%/*}/starpu
# hwloc's PCI plugin leaks, and the address sanitizer would count that against the program.
export HWLOC_COMPONENTS=-pci

readonly demo=$source_dir/models/demo
readonly bad=$source_dir/tests/data/bad
readonly golden=$source_dir/tests/data/golden
for file in lib generate tokenizer_files verbs make_data eval eval_files bench tune calibration usage bad_files models faults serve prefixes ranks; do
    # shellcheck source=/dev/null
    source "$source_dir/tests/e2e/$file.sh"
done

"case_$case_name"
((failures == 0)) || { echo "$case_name: $failures expectations failed" && exit 1; }
