#include "pipeline/engine/prefixes/kv_dir.h"

#include "core/base/memory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

int kv_dir_lock(const char *dir)
{
    char *path = mp_xasprintf("%s/.lock", dir);
    int lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    free(path);
    while (lock >= 0 && flock(lock, LOCK_EX) != 0 && errno == EINTR) {
    }
    return lock;
}

void kv_dir_unlock(int lock)
{
    if (lock >= 0) {
        close(lock);
    }
}

/* ---- what there is ---- */

static bool ends_with(const char *name, const char *end)
{
    size_t length = strlen(name);
    return length > strlen(end) && strcmp(name + length - strlen(end), end) == 0;
}

/* A file that is being written ("NAME.kv.NUMBERS.new") is locked until it has its name. */
static bool remove_abandoned(const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    bool abandoned = fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0;
    if (fd >= 0) {
        close(fd);
    }
    return abandoned && unlink(path) == 0;
}

static void add(struct kv_dir_list *list, char *path, bool unfinished, bool locked)
{
    struct stat st;
    if (stat(path, &st) != 0 || !S_ISREG(st.st_mode) ||
        (unfinished && locked && remove_abandoned(path))) {
        free(path);
        return;
    }
    list->bytes += (int64_t)st.st_size;
    if (unfinished) {
        free(path);
        return;
    }
    list->files = mp_xrealloc(list->files, (size_t)list->count + 1, sizeof *list->files);
    list->files[list->count++] = (struct kv_dir_file){
        .path = path,
        .inode = st.st_ino,
        .bytes = (int64_t)st.st_size,
        .used = st.st_mtim,
    };
}

int kv_dir_read(const char *dir, bool locked, struct kv_dir_list *out, struct mp_error *err)
{
    DIR *stream = opendir(dir);
    *out = (struct kv_dir_list){0};
    if (stream == NULL) {
        return mp_fail(err, MP_ERR_IO, "runtime.kv_dir: %s: %s", dir, strerror(errno));
    }
    for (const struct dirent *d = readdir(stream); d != NULL; d = readdir(stream)) {
        bool unfinished = strstr(d->d_name, KV_SUFFIX ".") != NULL && ends_with(d->d_name, ".new");
        if (unfinished || ends_with(d->d_name, KV_SUFFIX)) {
            add(out, mp_xasprintf("%s/%s", dir, d->d_name), unfinished, locked);
        }
    }
    closedir(stream);
    return 0;
}

void kv_dir_list_free(struct kv_dir_list *list)
{
    for (int i = 0; i < list->count; i++) {
        free(list->files[i].path);
    }
    free(list->files);
    *list = (struct kv_dir_list){0};
}

/* ---- room ---- */

static int by_use(const void *a, const void *b)
{
    const struct timespec *x = &((const struct kv_dir_file *)a)->used;
    const struct timespec *y = &((const struct kv_dir_file *)b)->used;
    return x->tv_sec != y->tv_sec ? (x->tv_sec < y->tv_sec ? -1 : 1)
                                  : (x->tv_nsec > y->tv_nsec) - (x->tv_nsec < y->tv_nsec);
}

int kv_dir_make_room(const char *dir, int64_t bytes, int64_t limit, struct mp_error *err)
{
    struct kv_dir_list list;
    int code = kv_dir_read(dir, true, &list, err);
    if (list.count > 1) {
        qsort(list.files, (size_t)list.count, sizeof *list.files, by_use);
    }
    int64_t used = list.bytes;
    for (int i = 0; i < list.count && used + bytes > limit; i++) {
        const struct kv_dir_file *file = &list.files[i];
        used -= unlink(file->path) == 0 || errno == ENOENT ? file->bytes : 0;
    }
    if (code == 0 && used + bytes > limit) {
        code = mp_fail(err, MP_ERR_IO,
                       "runtime.kv_dir_size: found %lld bytes, of which files that cannot be "
                       "removed take %lld, but a prompt takes %lld",
                       (long long)limit, (long long)used, (long long)bytes);
    }
    kv_dir_list_free(&list);
    return code;
}
