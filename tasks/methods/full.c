/* full: every layer is dense and attends to all of its cache. */
#include "tasks/methods/method.h"

const struct mp_method mp_method_full = {
    .name = "full",
    .summary = "exact attention to every token",
    .keys = (const char *const[]){NULL},
};
