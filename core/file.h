/* Whole files. */
#ifndef MP_CORE_FILE_H
#define MP_CORE_FILE_H

#include "core/error.h"

#include <stddef.h>

/* Reads all of path ("-": standard input) into *data, malloc'ed and with a NUL after its *length
 * bytes. MP_ERR_IO if it cannot be read, MP_ERR_FORMAT if it has more than max_bytes. */
int mp_file_read(const char *path, size_t max_bytes, char **data, size_t *length,
                 struct mp_error *err);

/* Writes text and a newline to a file beside path, and then renames it: whoever reads path finds
 * the old content or the new one, whole. Of a symbolic link the file it leads to is replaced.
 * MP_ERR_IO. */
int mp_file_replace(const char *path, const char *text, struct mp_error *err);

/* The folder that path is in: "." for a name alone, "/" for "/name". The caller's. */
char *mp_file_folder(const char *path);

/* What messages call path: "standard input" for "-". */
const char *mp_file_name(const char *path);

#endif
