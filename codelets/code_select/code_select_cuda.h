/* The two ways of code_select on the GPU, which select the same; for code_select_cuda, which
 * chooses, and for tests and benchmarks. */
#ifndef MP_CODELETS_CODE_SELECT_CUDA_H
#define MP_CODELETS_CODE_SELECT_CUDA_H

#include "codelets/code_select/code_select.h"

#include <stdbool.h>

/* A kernel for each step. */
void code_select_steps_cuda(const struct code_select_args *a);

/* The queries' kernel, and one whose CTAs wait for each other. */
void code_select_fused_cuda(const struct code_select_args *a);
/* Whether it can be had: not too many query heads share a KV head, the logits of one fit on the
 * chip, and the device can hold its CTAs all at once. */
bool code_select_can_fuse(const struct code_select_args *a);
#endif
