#!/usr/bin/env bash
# scripts/check_layers.sh accepts a clean tree and refuses each kind of leak, naming the line.
set -euo pipefail
check=$(cd "$(dirname "$0")/../.." && pwd)/scripts/check_layers.sh
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT

plant() { # a clean tree
    rm -rf "${tree:?}"/*
    mkdir -p "$tree"/{core,models,tasks,codelets/ffn,codelets/common/task,tasks/methods}
    mkdir -p "$tree"/pipeline/{engine,cli,make_data,eval,bench,tune,report}
    echo '#include "core/base/error.h"' | tee "$tree"/{core,models,tasks,pipeline}/a.c "$tree"/pipeline/{engine,cli,bench}/a.c \
        "$tree"/codelets/ffn/ffn_ref.c >"$tree/codelets/common/simd.h"
    echo '#include "tasks/runtime.h"' >>"$tree/pipeline/engine/a.c"
    echo '#include "pipeline/engine/magicpig.h"' >>"$tree/pipeline/cli/a.c"
    echo '#include "pipeline/engine/hooks.h"' >>"$tree/pipeline/bench/a.c"
    # What is allowed: StarPU in codelets and tasks, CUDA in codelets, vectors in kernels.
    echo '#include <starpu.h>' | tee "$tree"/codelets/ffn/ffn.c "$tree"/tasks/runtime.c \
        >"$tree/codelets/common/task/codelet.h"
    echo '    .name = "magicpig",' >"$tree/tasks/methods/magicpig.c"
    echo '#include <cuda_runtime.h>' >"$tree/codelets/ffn/ffn_cuda.cu"
    echo '#include <immintrin.h>' >"$tree/codelets/ffn/ffn_avx2.c"
    echo '    conf.ncuda = 0;' >>"$tree/tasks/runtime.c"
    echo '/* The names of a llama and a mistral belong here. */' >>"$tree/models/a.c"
}

refuse() { # refuse FILE LINE: with LINE in FILE the check fails and points there
    plant
    echo "$2" >>"$tree/$1"
    if said=$("$check" "$tree" 2>&1); then
        echo "not refused in $1: $2"
        exit 1
    fi
    if [[ $said != *"$1:"*"$2"* ]]; then
        echo "refused, but without naming $1: $said"
        exit 1
    fi
}

plant
"$check" "$tree"

refuse core/a.c '#include <starpu.h>'
refuse core/new.h '    starpu_shutdown();'
refuse models/a.c '    int x = STARPU_MAX;'
refuse codelets/ffn/ffn_ref.c '#include "starpu.h"'
refuse codelets/ffn/ffn_avx512.c '#include <starpu.h>'
refuse codelets/ffn/ffn_fast.c '    starpu_task_insert();'
refuse codelets/ffn/ffn_cuda.cu '    cudaStream_t s = starpu_cuda_get_local_stream();'
refuse codelets/common/simd.h '#include <starpu.h>'
refuse core/a.c '#include <cuda_runtime.h>'
refuse tasks/a.c '    cudaMalloc(&p, n);'
refuse models/a.c '    CUdeviceptr p;'
refuse pipeline/a.c '#include <cublas_v2.h>'
refuse pipeline/a.c '    float *x = STARPU_VECTOR_GET_PTR(buffers[0]);'
refuse tasks/a.c '    p = STARPU_VARIABLE_GET_DEV_HANDLE(b);'
refuse pipeline/a.c '#include <immintrin.h>'
refuse core/a.c '    if (strcmp(type, "llama") == 0) {'
refuse tasks/a.c '/* Qwen3 */'
refuse codelets/ffn/ffn.c 'bool is_mixtral;'
refuse pipeline/a.c 'LLAMA_EOS'
refuse core/a.c '#include "tasks/runtime.h"'
refuse codelets/ffn/ffn.c '#include "pipeline/engine/magicpig.h"'
refuse models/a.c '#include "tasks/runtime.h"'
refuse tasks/a.c '#include "models/model.h"'
refuse pipeline/cli/a.c '#include "pipeline/engine/internal.h"'
refuse pipeline/bench/a.c '#include "tasks/runtime.h"'
refuse pipeline/tune/a.c '#include "models/presets.h"'
refuse pipeline/make_data/a.c '#include "models/chat/chat.h"'
refuse pipeline/report/a.h '#include "codelets/common/task/task.h"'
refuse pipeline/engine/a.c '#include "pipeline/cli/interrupt.h"'
refuse pipeline/engine/a.c '#include "pipeline/make_data/fit.h"'
refuse codelets/ffn/ffn_fast.c '#pragma omp parallel for num_threads(2)'

refuse codelets/ffn/ffn_ref.c '#include "codelets/output/output.h"'
refuse tasks/methods/magicpig.c '#include <math.h>'
refuse tasks/methods/magicpig.c '    table_lookup_ref(&(struct table_lookup_args){0});'
refuse tasks/methods/magicpig.c '    float x = expf(y);'
refuse tasks/methods/magicpig.c '    memset(b->data, 0, b->bytes);'
refuse pipeline/a.c '    if (method == &mp_method_magicpig) {'
refuse core/a.c '    if (strcmp(c->method, "magicpig") == 0) {'

# A folder without the sources is a mistake, not a pass.
rm -rf "${tree:?}"/*
if "$check" "$tree" 2>/dev/null; then
    echo 'an empty folder passes'
    exit 1
fi
echo 'check_layers: 1 clean tree accepted, 38 leaks and an empty folder refused'
