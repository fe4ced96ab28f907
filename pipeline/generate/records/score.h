/* How right an answer is: as the benchmark RULER (arXiv 2404.06654) counts. */
#ifndef MP_PIPELINE_SCORE_H
#define MP_PIPELINE_SCORE_H

#include <stdbool.h>
#include <stddef.h>

/* The share of the expected texts, count >= 1, that text[0 .. length) contains; or, with `any`,
 * whether it contains one of them. Upper and lower case are the same, control characters of the
 * text are newlines. An answer of white space alone is 0. text is valid UTF-8 but may contain NUL,
 * the expected ones not. */
double mp_answer_score(const char *text, size_t length, char *const *expected, size_t count,
                       bool any);

/* Whether one expected text is enough in a task of this name: qa_1, qa_2, qa. NULL: it is not. */
bool mp_answer_any(const char *task);

#endif
