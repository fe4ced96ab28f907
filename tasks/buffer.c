#include "tasks/buffer.h"

#include "core/memory.h"

#include <starpu.h>
#include <string.h>

int mp_buffer_alloc(struct mp_buffer *b, size_t bytes, const char *what, struct mp_error *err)
{
    void *host = mp_alloc(bytes, 1, what, err);
    if (host == NULL) {
        return MP_ERR_MEMORY;
    }
    mp_buffer_wrap(b, host, bytes);
    b->owned = true;
    return 0;
}

void mp_buffer_wrap(struct mp_buffer *b, void *host, size_t bytes)
{
    *b = (struct mp_buffer){.host = host, .bytes = bytes};
    /* StarPU wants at least one byte. */
    starpu_variable_data_register(&b->handle, STARPU_MAIN_RAM, (uintptr_t)host,
                                  bytes > 0 ? bytes : 1);
}

void mp_buffer_release(struct mp_buffer *b)
{
    if (b->handle != NULL) {
        starpu_data_unregister(b->handle);
    }
    if (b->owned) {
        mp_free(b->host);
    }
    *b = (struct mp_buffer){0};
}

int mp_buffer_acquire(struct mp_buffer *b, bool write, struct mp_error *err)
{
    int rc = starpu_data_acquire(b->handle, write ? STARPU_RW : STARPU_R);
    if (rc != 0) {
        return mp_fail(err, MP_ERR_RUNTIME, "starpu_data_acquire of %zu bytes failed: %s", b->bytes,
                       strerror(-rc));
    }
    return 0;
}

void mp_buffer_return(struct mp_buffer *b)
{
    starpu_data_release(b->handle);
}
