/* What an open set of tensors holds. Private to core/safetensors*.c. */
#ifndef MP_CORE_SAFETENSORS_SET_H
#define MP_CORE_SAFETENSORS_SET_H

#include "core/json/json.h"
#include "core/json/strmap.h"
#include "core/safetensors/safetensors.h"

/* One mapped file. */
struct mp_tensor_file {
    char *path;
    void *base; /* the mapping */
    size_t size;
    struct mp_json *header; /* owns the tensors' names */
};

struct mp_tensors {
    struct mp_tensor_file *files;
    size_t num_files;
    struct mp_tensor *items; /* in order of file and position */
    size_t count;
    struct mp_strmap by_name; /* name -> const struct mp_tensor * */
};

/* Maps a file, checks its header and appends its tensors to items. */
int mp_tensors_add_file(struct mp_tensors *t, const char *path, struct mp_error *err);

/* Fills by_name once every file is added; names that come twice are an error that lists them. */
int mp_tensors_index(struct mp_tensors *t, const char *where, struct mp_error *err);

/* Names for a message, as many as fit. Start from {0}. */
struct mp_name_list {
    char text[512]; /* "a, b, c" */
    size_t count;
};
void mp_name_list_add(struct mp_name_list *list, const char *name);

#endif
