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
 * the old content or the new one, whole. MP_ERR_IO. */
int mp_file_replace(const char *path, const char *text, struct mp_error *err);

/* What messages call path: "standard input" for "-". */
const char *mp_file_name(const char *path);

#endif
