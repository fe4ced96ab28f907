#include "codelets/common/task/buffer.h"

#include <starpu.h>
#include <string.h>

static void register_data(struct mp_buffer *b)
{
    /* StarPU wants at least one byte. */
    starpu_variable_data_register(&b->handle, (int)mp_memory_node(b->place), (uintptr_t)b->data,
                                  b->bytes > 0 ? b->bytes : 1);
}

void mp_buffer_create(struct mp_allocator *a, struct mp_buffer *b, struct mp_place place,
                      size_t bytes, const char *what)
{
    void *data = mp_allocate(a, place, bytes, what);
    if (data == NULL) {
        return;
    }
    *b = (struct mp_buffer){
        .data = data,
        .bytes = bytes,
        .place = place,
        .owned = true,
        .in_place = place.memory == MP_MEMORY_PINNED,
    };
    register_data(b);
}

void mp_buffer_wrap(struct mp_allocator *a, struct mp_buffer *b, struct mp_place place, void *data,
                    size_t bytes)
{
    if (!mp_allocated(a)) {
        return;
    }
    *b = (struct mp_buffer){
        .data = data, .bytes = bytes, .place = place, .in_place = place.memory != MP_MEMORY_GPU};
    register_data(b);
}

void mp_buffer_release(struct mp_buffer *b)
{
    if (b->handle != NULL) {
        starpu_data_unregister(b->handle);
    }
    if (b->owned) {
        mp_memory_free(b->place, b->data, b->bytes);
    }
    *b = (struct mp_buffer){0};
}

int mp_buffer_fill(struct mp_buffer *b, const void *from, struct mp_error *err)
{
    if (b->place.memory == MP_MEMORY_GPU) {
        return mp_memory_copy(b->place, b->data, MP_HOST, from, b->bytes, err);
    }
    memcpy(b->data, from, b->bytes);
    return 0;
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
