/* Two files of answers side by side. */
#ifndef MP_PIPELINE_EVAL_COMPARE_H
#define MP_PIPELINE_EVAL_COMPARE_H

#include "core/base/error.h"

#include <stdio.h>

/* Which prompts have other scores in the one than in the other, and a sign test of that: the
 * probability that as many or more of them would go one way if both ways were equally likely.
 * Prompts are matched by their tokens; where a file has more than one setting, answers by their
 * attention too: two files may be of different set-ups or models. MP_ERR_IO, MP_ERR_FORMAT: a file;
 * MP_ERR_USAGE: nothing matches. */
int mp_eval_compare(const char *const paths[2], FILE *out, struct mp_error *err);

/* The two-sided sign test of `fewer` against `more`: 1 if both are 0. */
double mp_sign_test(size_t fewer, size_t more);

#endif
