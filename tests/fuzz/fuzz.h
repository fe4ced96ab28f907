/* What the fuzz targets share. */
#ifndef MP_TESTS_FUZZ_H
#define MP_TESTS_FUZZ_H

#include "core/base/error.h"

#include <stddef.h>
#include <stdint.h>

/* Each target defines it, and libFuzzer or corpus.c calls it: an input must not crash, hang, leak
 * or break what the target checks. Returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The path of a file with these bytes, in memory; the same file at each call. */
const char *fuzz_file(const uint8_t *data, size_t size);

/* What a failed call must have left: the code that it returned, and a message of valid UTF-8. */
void fuzz_check_error(int code, const struct mp_error *err);

#endif
