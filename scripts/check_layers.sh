#!/usr/bin/env bash
# Checks that the layers do not leak (CONTRIBUTING.md, "Rooms and layers"). Prints every offending
# line and exits 1 if there is any. Usage: scripts/check_layers.sh [source folder]
set -euo pipefail
shopt -s globstar nullglob
cd "${1:-"$(dirname "$0")/.."}"

core=(core/**/*.[ch])
codelets=(codelets/**/*.[ch] codelets/**/*.cu codelets/**/*.cuh)
models=(models/**/*.[ch])
tasks=(tasks/**/*.[ch])
pipeline=(pipeline/**/*.[ch])
engine=(pipeline/engine/**/*.[ch])
verbs=(pipeline/{cli,generate,serve,make_data,eval,bench,plan,tune,report}/**/*.[ch])
methods=(tasks/methods/*.c)

# Kernels: all of codelets/ but <op>/<op>.[ch], where the codelet is, and what submits tasks.
kernels=()
for file in "${codelets[@]}"; do
    name=$(basename "${file%.*}")
    if [[ $name != "$(basename "$(dirname "$file")")" && $file != codelets/common/task/* ]]; then
        kernels+=("$file")
    fi
done

violations=0
forbid() { # forbid RULE PATTERN FILE...: no line of the files matches the pattern
    local rule=$1 pattern=$2 status=0
    shift 2
    if [[ $# -eq 0 ]]; then
        echo "$rule: no source files under $PWD" >&2
        exit 2
    fi
    grep -nHE -- "$pattern" "$@" >&2 || status=$?
    if [[ $status -eq 0 ]]; then
        echo "^ $rule" >&2
        violations=1
    elif [[ $status -gt 1 ]]; then
        exit "$status"
    fi
}

forbid 'core/ and models/ know no StarPU; kernels neither' \
    '#include *[<"]starpu|\<(starpu|STARPU)_' "${core[@]}" "${models[@]}" "${kernels[@]}"
forbid 'CUDA belongs to codelets/' \
    '#include *[<"](cuda|cublas|cudnn)|\<(cuda|cublas|cudnn)[A-Z]|\<CUdeviceptr\>' \
    "${core[@]}" "${models[@]}" "${tasks[@]}" "${pipeline[@]}"
forbid 'device pointers belong to codelets/' \
    '\<STARPU_[A-Z]+_GET_(PTR|DEV_HANDLE)\>' "${models[@]}" "${tasks[@]}" "${pipeline[@]}"
forbid 'kernels belong to codelets/' \
    'immintrin\.h|\<_mm[0-9]*_|\<__global__\>' "${models[@]}" "${tasks[@]}" "${pipeline[@]}"
forbid 'names of models belong to models/' \
    '[Ll]lama|LLAMA|[Mm]i[sx]tral|[Qq]wen|[Gg]emma|[Dd]eep[Ss]eek|[Ff]alcon' \
    "${core[@]}" "${codelets[@]}" "${tasks[@]}" "${pipeline[@]}"

forbid 'core/ includes no other room' '#include "(codelets|models|tasks|pipeline)/' "${core[@]}"
forbid 'codelets/ includes core/ only' '#include "(models|tasks|pipeline)/' "${codelets[@]}"
forbid 'models/ includes core/ and codelets/ only' '#include "(tasks|pipeline)/' "${models[@]}"
forbid 'tasks/ includes core/ and codelets/ only' '#include "(models|pipeline)/' "${tasks[@]}"

forbid 'the engine knows no verb' '#include "pipeline/(cli|generate|serve|make_data|eval|bench|plan|tune|report)/' "${engine[@]}"
# What the verbs may include of the engine: its public header, and those made for them.
hooks='"pipeline/engine/(magicpig|hooks|plan|recording)\.h"'
if grep -nHE '#include "(codelets|models|tasks|pipeline/engine)/' "${verbs[@]}" |
    grep -vE "$hooks" >&2; then
    echo '^ verbs know of the engine its public header and its hooks, and nothing below it' >&2
    violations=1
fi

# An op includes core/, what all ops share, and itself.
for folder in codelets/*/; do
    op=$(basename "$folder")
    sources=("$folder"*.[ch] "$folder"*.cu "$folder"*.cuh)
    if [[ $op != common && ${#sources[@]} -gt 0 ]] &&
        grep -nHE '#include "codelets/' "${sources[@]}" | grep -vE "\"codelets/(common|$op)/" >&2; then
        echo '^ an op includes core/ and codelets/common/ only' >&2
        violations=1
    fi
done

# Methods: sizes and inserts. What a method computes is in ops.
if [[ ${#methods[@]} -gt 0 ]]; then
    forbid 'methods do no arithmetic on data' \
        '<(math|tgmath)\.h>|_args\>|->data\>|\<(exp|log|sqrt|pow)[a-z0-9]*\(|_(ref|fast|avx2|avx512|cuda)\(' \
        "${methods[@]}"
fi
names=$(sed -n 's/^ *\.name = "\(.*\)",$/\1/p' "${methods[@]}" /dev/null | paste -sd '|')
others=()
for file in "${core[@]}" "${codelets[@]}" "${tasks[@]}" "${pipeline[@]}"; do
    [[ $file == tasks/methods/* ]] || others+=("$file")
done
forbid 'methods are known by name in tasks/methods/ only' \
    "\\<mp_method_(${names:-none})\\>|strcmp\\(.*\"(${names:-none})\"" "${others[@]}"

# libgomp ends the threads that a smaller team leaves out; core/machine/topology.h says what follows.
forbid 'kernels run in the team they find' '\<omp\>.*\<num_threads *\(' "${codelets[@]}"

exit "$violations"
