#!/usr/bin/env bash
# Prints the folder of the CUDA toolkit: of the nvcc in PATH, else in $CUDA_HOME, $CUDA_PATH or
# /usr/local/cuda. Prints nothing and exits 1 if there is none, or only one older than 12.0 (which
# knows no sm_90a).
set -euo pipefail

for nvcc in "$(command -v nvcc || true)" {"${CUDA_HOME:-}","${CUDA_PATH:-}",/usr/local/cuda}/bin/nvcc; do
    [[ -x $nvcc ]] || continue
    major=$("$nvcc" --version | sed -n 's/.*release \([0-9]*\)\..*/\1/p')
    # An nvcc in PATH may be a link into the toolkit.
    for home in "${nvcc%/bin/nvcc}" "$(dirname "$(dirname "$(readlink -f "$nvcc")")")"; do
        if [[ ${major:-0} -ge 12 && -e $home/include/cuda.h ]]; then
            echo "$home"
            exit 0
        fi
    done
done
exit 1
