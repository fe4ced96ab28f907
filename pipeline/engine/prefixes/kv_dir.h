/* A folder of segments' files, which several processes may use: what is in it the folder itself
 * says, not what one of them has put there. Functions may be called by any thread. */
#ifndef MP_PIPELINE_KV_DIR_H
#define MP_PIPELINE_KV_DIR_H

#include "core/base/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#define KV_SUFFIX ".kv"

/* One process at a time looks for room and takes it, and removes what others have left: a file of
 * the folder is locked meanwhile. Returns what kv_dir_unlock takes. Where there are no locks the
 * limit may be exceeded, by what several begin at once. */
int kv_dir_lock(const char *dir);
void kv_dir_unlock(int lock);

struct kv_dir_file {
    char *path;
    ino_t inode; /* another one once it has been written anew */
    int64_t bytes;
    struct timespec used; /* last */
};

struct kv_dir_list {
    struct kv_dir_file *files; /* [count] */
    int count;
    int64_t bytes; /* of all of them, and of those that are being written, at their full size */
};

/* What is in a folder. locked: it is, and what was being written by processes that are no more, so
 * that nobody holds its lock, is removed. MP_ERR_IO. *out: kv_dir_list_free. */
int kv_dir_read(const char *dir, bool locked, struct kv_dir_list *out, struct mp_error *err);
void kv_dir_list_free(struct kv_dir_list *list);

/* Removes files of a locked folder, those that were not used for the longest time, until there is
 * room for so many bytes within the limit. MP_ERR_IO: there is none. */
int kv_dir_make_room(const char *dir, int64_t bytes, int64_t limit, struct mp_error *err);

#endif
