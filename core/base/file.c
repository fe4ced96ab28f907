#include "core/base/file.h"

#include "core/base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
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

bool mp_file_is_lfs_pointer(const char *data, size_t length)
{
    static const char start[] = "version https://git-lfs.github.com/spec/";
    return length >= sizeof start - 1 && memcmp(data, start, sizeof start - 1) == 0;
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

/* ---- writing ---- */

/* A new file of its own: two that write the same path, also with the same process id in two
 * containers, do not write the same file. */
static FILE *create_beside(const char *target, char **name)
{
    enum { TRIES = 100 };
    int fd = -1;
    errno = EEXIST;
    for (int i = 0; i < TRIES && fd < 0 && errno == EEXIST; i++) {
        uint32_t number = (uint32_t)i; /* enough, if there are no random numbers yet */
        ssize_t drawn = getrandom(&number, sizeof number, GRND_NONBLOCK);
        (void)drawn;
        free(*name);
        *name = mp_xasprintf("%s.%ld-%08x.new", target, (long)getpid(), (unsigned)number);
        fd = open(*name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    }
    FILE *out = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (out == NULL) {
        if (fd >= 0) {
            unlink(*name);
            close(fd);
        }
        free(*name);
        *name = NULL;
    }
    return out;
}

static bool open_beside(struct mp_new_file *f, const struct stat *old)
{
    /* Renaming would replace a link, not its file; NULL: nothing is there yet. */
    f->target = realpath(f->path, NULL);
    if (f->target == NULL) {
        f->target = mp_xstrdup(f->path);
    }
    f->out = create_beside(f->target, &f->beside);
    if (f->out == NULL) {
        return false;
    }
    int mode_stays = old == NULL ? 0 : fchmod(fileno(f->out), old->st_mode & 07777);
    (void)mode_stays; /* which is not worth an error */
    return true;
}

static void free_names(struct mp_new_file *f)
{
    free(f->path);
    free(f->target);
    free(f->beside);
    *f = (struct mp_new_file){0};
}

int mp_new_file_open(struct mp_new_file *f, const char *path, struct mp_error *err)
{
    struct stat st;
    bool is_there = lstat(path, &st) == 0;
    bool is_file = is_there && stat(path, &st) == 0 && S_ISREG(st.st_mode);
    *f = (struct mp_new_file){.path = mp_xstrdup(path)};
    if ((is_there && !is_file) || !open_beside(f, is_file ? &st : NULL)) {
        f->out = fopen(path, "w");
    }
    if (f->out != NULL) {
        errno = 0; /* for finish */
        return MP_OK;
    }
    free_names(f);
    return mp_fail(err, MP_ERR_IO, "%s: cannot create: %s", path, strerror(errno));
}

/* 0, or the errno of what failed. */
static int finish(FILE *out)
{
    /* A write before has left its reason in errno, and maybe nothing to flush. */
    int error = !ferror(out) ? 0 : errno != 0 ? errno : EIO;
    /* EINVAL: nothing to wait for, as with a pipe. */
    if (fflush(out) != 0 || (fsync(fileno(out)) != 0 && errno != EINVAL)) {
        error = error != 0 ? error : errno;
    }
    return fclose(out) != 0 && error == 0 ? errno : error;
}

int mp_new_file_close(struct mp_new_file *f, int code, struct mp_error *err)
{
    int error = finish(f->out);
    if (code == MP_OK && error != 0) {
        code = mp_fail(err, MP_ERR_IO, "%s: cannot write: %s", f->path, strerror(error));
    }
    struct stat st;
    if (code != MP_OK && f->beside != NULL) {
        unlink(f->beside);
    } else if (code != MP_OK && stat(f->path, &st) == 0 && S_ISREG(st.st_mode)) {
        int emptied = truncate(f->path, 0);
        (void)emptied; /* the error is known */
    } else if (code == MP_OK && f->beside != NULL && rename(f->beside, f->target) != 0) {
        code = mp_fail(err, MP_ERR_IO, "%s: cannot be replaced by %s, which is whole: %s", f->path,
                       f->beside, strerror(errno));
    }
    free_names(f);
    return code;
}

int mp_file_replace(const char *path, const char *text, struct mp_error *err)
{
    struct mp_new_file f;
    int code = mp_new_file_open(&f, path, err);
    if (code == MP_OK) {
        fprintf(f.out, "%s\n", text);
        code = mp_new_file_close(&f, MP_OK, err);
    }
    return code;
}
