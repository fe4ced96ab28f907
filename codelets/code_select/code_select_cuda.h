/* The two ways of code_select on the GPU, which select the same; for code_select_cuda, which
 * chooses, and for tests and benchmarks. */
#ifndef MP_CODELETS_CODE_SELECT_CUDA_H
#define MP_CODELETS_CODE_SELECT_CUDA_H

#include "codelets/code_select/code_select.h"

#include <stdbool.h>

/* A kernel for each step. */
void code_select_steps_cuda(const struct code_select_args *a);

#endif
