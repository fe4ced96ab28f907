#include "core/base/file.h"

#include "core/base/memory.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FIRST_CHUNK = 64 * 1024 };

/* Room for the whole file if its size is known, so that the usual case reads without growing. */
static size_t first_capacity(FILE *file, size_t max_bytes)
{
    struct stat st;
    if (fstat(fileno(file), &st) != 0 || !S_ISREG(st.st_mode) || st.st_size < FIRST_CHUNK) {
        return FIRST_CHUNK;
    }
    size_t size = (size_t)st.st_size;
    return (size < max_bytes ? size : max_bytes) + 2;
}

/* Room for `capacity` bytes of a file. Its size is the user's: none is an error like another. */
static int grow(char **buffer, size_t capacity, const char *path, struct mp_error *err)
{
    char *grown = realloc(*buffer, capacity);
    if (grown == NULL) {
        return mp_fail(err, MP_ERR_MEMORY, "%s: out of memory: %zu bytes asked for to read it",
                       path, capacity);
    }
    *buffer = grown;
    return MP_OK;
}

static int read_into(char **buffer, size_t capacity, FILE *file, const char *path, size_t max_bytes,
                     size_t *length, struct mp_error *err)
{
    size_t used = 0;
    size_t got;
    while ((got = fread(*buffer + used, 1, capacity - 1 - used, file)) > 0) {
        used += got;
        if (used > max_bytes) {
            return mp_fail(err, MP_ERR_FORMAT, "%s: more than %zu bytes, the most expected here",
                           path, max_bytes);
        }
        if (used == capacity - 1) {
            capacity *= 2;
            int code = grow(buffer, capacity, path, err);
            if (code != MP_OK) {
                return code;
            }
        }
    }
    if (ferror(file)) {
        return mp_fail(err, MP_ERR_IO, "%s: cannot read: %s", path, strerror(errno));
    }
    (*buffer)[used] = '\0';
    *length = used;
    return MP_OK;
}

static int read_all(FILE *file, const char *path, size_t max_bytes, char **data, size_t *length,
                    struct mp_error *err)
{
    size_t capacity = first_capacity(file, max_bytes);
    char *buffer = NULL;
    int code = grow(&buffer, capacity, path, err);
    if (code == MP_OK) {
        code = read_into(&buffer, capacity, file, path, max_bytes, length, err);
    }
    if (code != MP_OK) {
        free(buffer);
        return code;
    }
    *data = buffer;
    return MP_OK;
}

const char *mp_file_name(const char *path)
{
    return strcmp(path, "-") == 0 ? "standard input" : path;
}

char *mp_file_folder(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL   ? mp_xstrdup(".")
           : slash == path ? mp_xstrdup("/")
                           : mp_xstrndup(path, (size_t)(slash - path));
}

int mp_file_read(const char *path, size_t max_bytes, char **data, size_t *length,
                 struct mp_error *err)
{
    bool is_stdin = strcmp(path, "-") == 0;
    FILE *file = is_stdin ? stdin : fopen(path, "rb");
    if (file == NULL) {
        return mp_fail(err, MP_ERR_IO, "%s: cannot open: %s", path, strerror(errno));
    }
    int rc = read_all(file, mp_file_name(path), max_bytes, data, length, err);
    if (!is_stdin) {
        fclose(file);
    }
    return rc;
}

int mp_file_make_folders(const char *path, struct mp_error *err)
{
    char *part = mp_xstrdup(path);
    int code = MP_OK;
    for (char *end = part; code == MP_OK && *end != '\0';) {
        end += strspn(end, "/");
        end += strcspn(end, "/");
        char next = *end;
        *end = '\0';
        if (mkdir(part, 0777) != 0 && errno != EEXIST) {
            code = mp_fail(err, MP_ERR_IO, "%s: cannot create: %s", part, strerror(errno));
        }
        *end = next;
    }
    free(part);
    return code;
}

static bool is_same(const struct stat *x, const struct stat *y)
{
    return x->st_dev == y->st_dev && x->st_ino == y->st_ino && !S_ISCHR(x->st_mode);
}

bool mp_file_same(const char *a, const char *b)
{
    struct stat x;
    struct stat y;
    bool is_a = stat(a, &x) == 0;
    bool is_b = stat(b, &y) == 0;
    if (is_a || is_b) {
        return is_a && is_b && is_same(&x, &y);
    }
    if (strcmp(basename(a), basename(b)) != 0) {
        return false;
    }
    char *folder_a = mp_file_folder(a);
    char *folder_b = mp_file_folder(b);
    bool same = stat(folder_a, &x) == 0 && stat(folder_b, &y) == 0 && is_same(&x, &y);
    free(folder_a);
    free(folder_b);
    return same;
}

/* Writes text and a newline as the whole content of path. 0, or the errno of what failed. */
static int write_text(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    if (file == NULL) {
        return errno;
    }
    int error = 0;
    /* EINVAL: nothing to wait for, as with a pipe. */
    if (fprintf(file, "%s\n", text) < 0 || fflush(file) != 0 ||
        (fsync(fileno(file)) != 0 && errno != EINVAL)) {
        error = errno;
    }
    if (fclose(file) != 0 && error == 0) {
        error = errno;
    }
    return error;
}

static int write_beside(const char *path, const char *text, struct mp_error *err)
{
    /* Renaming would replace a link, not its file; NULL: nothing is there yet. */
    char *target = realpath(path, NULL);
    if (target == NULL) {
        target = mp_xstrdup(path);
    }
    /* Named after the process: two that write the same path do not write the same file. */
    char *beside = mp_xasprintf("%s.%ld.new", target, (long)getpid());
    int error = write_text(beside, text);
    if (error == 0 && rename(beside, target) != 0) {
        error = errno;
    }
    int code = MP_OK;
    if (error != 0) {
        unlink(beside);
        code = mp_fail(err, MP_ERR_IO, "%s: cannot write through %s: %s", path, beside,
                       strerror(error));
    }
    free(beside);
    free(target);
    return code;
}

int mp_file_replace(const char *path, const char *text, struct mp_error *err)
{
    struct stat st;
    bool is_there = lstat(path, &st) == 0;
    if (!is_there || (stat(path, &st) == 0 && S_ISREG(st.st_mode))) {
        return write_beside(path, text, err);
    }
    int error = write_text(path, text);
    return error == 0 ? MP_OK
                      : mp_fail(err, MP_ERR_IO, "%s: cannot write: %s", path, strerror(error));
}
