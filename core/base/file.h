/* Files as a whole. */
#ifndef MP_CORE_FILE_H
#define MP_CORE_FILE_H

#include "core/base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* Reads all of path ("-": standard input) into *data, malloc'ed and with a NUL after its *length
 * bytes. MP_ERR_IO if it cannot be read, MP_ERR_FORMAT if it has more than max_bytes,
 * MP_ERR_MEMORY. */
int mp_file_read(const char *path, size_t max_bytes, char **data, size_t *length,
                 struct mp_error *err);

/* A file that is written beside path and then renamed: whoever reads path finds the old content or
 * the new one, whole. Of a symbolic link the file it leads to is replaced; its mode stays. What is
 * no file (a device, a pipe, a link that leads nowhere), or has no place beside it for another, is
 * written as it is. */
struct mp_new_file {
    FILE *out;
    char *path;   /* as it was given, for messages */
    char *target; /* what is replaced */
    char *beside; /* what is written; NULL: path itself */
};

/* MP_ERR_IO, with nothing open. */
int mp_new_file_open(struct mp_new_file *f, const char *path, struct mp_error *err);

/* Closes what was opened; with code 0 it takes the place of path, otherwise path stays as it was (a
 * file that was written as it is is emptied). Returns code, or MP_ERR_IO if it could not be
 * written. */
int mp_new_file_close(struct mp_new_file *f, int code, struct mp_error *err);

/* The same for text and a newline. MP_ERR_IO. */
int mp_file_replace(const char *path, const char *text, struct mp_error *err);

/* Creates the folder `path` and those that it is in, as far as they are missing. MP_ERR_IO. */
int mp_file_make_folders(const char *path, struct mp_error *err);

/* Whether both lead to the same file or folder; what is not there yet is the same as what has its
 * name in the same folder. Devices such as /dev/null are never the same: nothing is lost there. */
bool mp_file_same(const char *a, const char *b);

/* The folder that path is in: "." for a name alone, "/" for "/name". The caller's. */
char *mp_file_folder(const char *path);

/* Whether a file that starts with these bytes is a Git LFS pointer instead of the content that it
 * stands for. */
bool mp_file_is_lfs_pointer(const char *data, size_t length);

/* What messages call path: "standard input" for "-". */
const char *mp_file_name(const char *path);

#endif
