/* The folder of runtime.kv_dir: segments in files, for later runs. A thread of its own writes, so
 * that nobody waits for a disk; the files are read by who needs them. Other processes may use the
 * folder as well: what they have written is found by the next prompt that there is nothing better
 * for, and what they have removed is forgotten. */
#ifndef MP_PIPELINE_KV_FOLDER_H
#define MP_PIPELINE_KV_FOLDER_H

#include "pipeline/engine/prefixes/kv_file.h"

struct mp_kv_folder; /* opaque; one thread drives it */

/* Creates the folder if there is none, and looks through it. A file that is corrupt is named and
 * left out. The engine is started. MP_ERR_IO. *out: mp_kv_folder_close. */
int mp_kv_folder_open(const struct mp_engine *e, struct mp_kv_folder **out, struct mp_error *err);

/* Waits until all is written. NULL does nothing. */
void mp_kv_folder_close(struct mp_kv_folder *f);

/* The file that has the longest prefix in common with ids [count]; false: none has any. *out:
 * kv_file_free. */
bool mp_kv_folder_find(struct mp_kv_folder *f, const int32_t *ids, int64_t count,
                       struct kv_file *out);

/* As kv_file_load, on any core that the program may use. By any thread. */
int mp_kv_folder_read(const struct mp_kv_folder *f, const struct kv_file *file,
                      const struct mp_layer_kv *layers, struct mp_error *err);

/* How that went: a file that cannot be used is named, and not found again. */
void mp_kv_folder_note(struct mp_kv_folder *f, const struct kv_file *file, int code,
                       const struct mp_error *err);

/* Writes the segment, whose request is gone, unless there is or will be a file that has all of it.
 * Takes a reference until it is written. Files of the folder that were not used for the longest
 * time, whoever has written them, make room for it (runtime.kv_dir_size). */
void mp_kv_folder_save(struct mp_kv_folder *f, struct mp_segment *s);

/* Gives back the references of what has been written meanwhile; wait: of everything. */
void mp_kv_folder_collect(struct mp_kv_folder *f, bool wait);

#endif
