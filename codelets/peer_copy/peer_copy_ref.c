#include "codelets/peer_copy/peer_copy.h"

#include <string.h>

void peer_copy_ref(const struct peer_copy_args *a)
{
    memcpy(a->to, a->from, (size_t)a->count * sizeof *a->to);
}
