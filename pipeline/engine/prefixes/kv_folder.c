#include "pipeline/engine/prefixes/kv_folder.h"

#include "core/base/file.h"
#include "core/base/hash.h"
#include "core/base/log.h"
#include "core/base/memory.h"
#include "pipeline/engine/prefixes/kv_dir.h"
#include "pipeline/engine/prefixes/kv_layout.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* What is to be written, or has been. */
struct job {
    struct mp_segment *segment;
    char *path;
    int64_t bytes; /* of the file */
    int code;
    struct mp_error err;
    struct job *next;
};

struct mp_kv_folder {
    const struct mp_engine *engine;
    const char *path;
    cpu_set_t cpus;        /* that the program may use: its threads are bound later */
    struct kv_file *files; /* [count] of use to this engine; others may have removed some */
    int count;
    struct kv_dir_list seen; /* what was there when the folder was looked through */
    struct timespec seen_at; /* the folder's own time then; 0: it may change without a later one */
    pthread_t writer;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t changed;
    struct job *waiting; /* the first one is being written */
    struct job *done;
    bool stop; /* once nothing waits */
};

/* ---- files that are known ---- */

static void add_file(struct mp_kv_folder *f, const struct kv_file *file)
{
    f->files = mp_xrealloc(f->files, (size_t)f->count + 1, sizeof *f->files);
    f->files[f->count++] = *file;
}

static void forget(struct mp_kv_folder *f, int i)
{
    kv_file_free(&f->files[i]);
    f->files[i] = f->files[--f->count];
}

static struct kv_file copy_of(const struct kv_file *file)
{
    struct kv_file copy = *file;
    copy.path = mp_xstrdup(file->path);
    copy.ids = mp_xcalloc((size_t)file->tokens, sizeof *copy.ids);
    memcpy(copy.ids, file->ids, (size_t)file->tokens * sizeof *copy.ids);
    return copy;
}

static bool is_gone(const char *path)
{
    return access(path, F_OK) != 0 && errno == ENOENT;
}

/* Number of the file that has most of ids [count], *most tokens; -1: none has any. */
static int find_best(const struct mp_kv_folder *f, const int32_t *ids, int64_t count, int64_t *most)
{
    int best = -1;
    *most = 0;
    for (int i = 0; i < f->count; i++) {
        int64_t common = mp_common_tokens(f->files[i].ids, f->files[i].tokens, ids, count);
        if (common > *most) {
            *most = common;
            best = i;
        }
    }
    return best;
}

/* The same of those that are still there. */
static int find_left(struct mp_kv_folder *f, const int32_t *ids, int64_t count, int64_t *most)
{
    int best = find_best(f, ids, count, most);
    while (best >= 0 && is_gone(f->files[best].path)) {
        forget(f, best);
        best = find_best(f, ids, count, most);
    }
    return best;
}

/* ---- looking through the folder ---- */

static void look_at(struct mp_kv_folder *f, const char *path)
{
    struct mp_error err;
    struct kv_file file;
    int code = kv_file_open(f->engine, path, &file, &err);
    if (code == 0) {
        add_file(f, &file);
    } else if (!is_gone(path)) {
        mp_log(code == MP_ERR_UNSUPPORTED ? MP_LOG_INFO : MP_LOG_WARNING, "%s; not used",
               err.message);
    }
}

/* Whether a file has been looked at before, or is one of the engine's own. */
static bool is_old(const struct mp_kv_folder *f, const struct kv_dir_file *file)
{
    for (int i = 0; i < f->seen.count; i++) {
        const struct kv_dir_file *seen = &f->seen.files[i];
        if (seen->inode == file->inode && strcmp(seen->path, file->path) == 0) {
            return true;
        }
    }
    for (int i = 0; i < f->count; i++) {
        if (strcmp(f->files[i].path, file->path) == 0) {
            return true;
        }
    }
    return false;
}

static int look_through(struct mp_kv_folder *f, bool locked, struct mp_error *err)
{
    struct kv_dir_list list;
    int code = kv_dir_read(f->path, locked, &list, err);
    if (code != 0) {
        return code;
    }
    for (int i = 0; i < list.count; i++) {
        if (!is_old(f, &list.files[i])) {
            look_at(f, list.files[i].path);
        }
    }
    kv_dir_list_free(&f->seen);
    f->seen = list;
    return 0;
}

/* Whether files have come or gone since this was asked last. Times of files are coarse: one that
 * comes right after another does not change the folder's. */
static bool has_changed(struct mp_kv_folder *f)
{
    struct stat st;
    if (stat(f->path, &st) != 0 || (st.st_mtim.tv_sec == f->seen_at.tv_sec &&
                                    st.st_mtim.tv_nsec == f->seen_at.tv_nsec)) {
        return false;
    }
    f->seen_at = time(NULL) - st.st_mtim.tv_sec > 1 ? st.st_mtim : (struct timespec){0};
    return true;
}

/* ---- finding ---- */

/* Looks for what other processes have written since only if it is of use. */
static int find_present(struct mp_kv_folder *f, const int32_t *ids, int64_t count, int64_t *most)
{
    struct mp_error err;
    int best = find_left(f, ids, count, most);
    if (*most < count && has_changed(f)) {
        if (look_through(f, false, &err) != 0) {
            mp_log(MP_LOG_WARNING, "%s", err.message);
        }
        best = find_left(f, ids, count, most);
    }
    return best;
}

bool mp_kv_folder_find(struct mp_kv_folder *f, const int32_t *ids, int64_t count,
                       struct kv_file *out)
{
    int64_t most;
    int best = find_present(f, ids, count, &most);
    if (best >= 0) {
        *out = copy_of(&f->files[best]);
    }
    return best >= 0;
}

/* The time is kept with the file, for later runs and for other processes. */
static void mark_used(const char *path)
{
    struct timespec now[2];
    clock_gettime(CLOCK_REALTIME, &now[0]);
    now[1] = now[0];
    int not_kept = utimensat(AT_FDCWD, path, now, 0);
    (void)not_kept; /* which is not worth an error */
}

int mp_kv_folder_read(const struct mp_kv_folder *f, const struct kv_file *file,
                      const struct mp_layer_kv *layers, struct mp_error *err)
{
    return kv_file_load(f->engine, file, layers, &f->cpus, err);
}

void mp_kv_folder_note(struct mp_kv_folder *f, const struct kv_file *file, int code,
                       const struct mp_error *err)
{
    if (code == 0) {
        mark_used(file->path);
        return;
    }
    if (is_gone(file->path)) {
        mp_log(MP_LOG_INFO, "%s: has been removed; the prompt is read anew", file->path);
    } else {
        mp_log(MP_LOG_WARNING, "%s; the prompt is read anew", err->message);
    }
    for (int i = f->count - 1; i >= 0; i--) {
        if (strcmp(f->files[i].path, file->path) == 0) {
            forget(f, i);
        }
    }
}

/* ---- writing ---- */

/* Jobs are taken over in the order in which their files were written. */
static void append(struct job **list, struct job *job)
{
    while (*list != NULL) {
        list = &(*list)->next;
    }
    job->next = NULL;
    *list = job;
}

/* There is room for the file from when it is created. */
static void write_one(const struct mp_kv_folder *f, struct job *job)
{
    struct kv_new_file file;
    int64_t limit = f->engine->config->kv_dir_size;
    int lock = kv_dir_lock(f->path);
    job->code = limit == 0 ? 0 : kv_dir_make_room(f->path, job->bytes, limit, &job->err);
    if (job->code == 0) {
        job->code = kv_file_create(job->path, job->bytes, &file, &job->err);
    }
    kv_dir_unlock(lock);
    if (job->code == 0) {
        job->code = kv_file_write(f->engine, job->segment, &file, &job->err);
    }
}

static void *write_all(void *folder)
{
    struct mp_kv_folder *f = folder;
    pthread_mutex_lock(&f->lock);
    for (;;) {
        while (f->waiting == NULL && !f->stop) {
            pthread_cond_wait(&f->changed, &f->lock);
        }
        struct job *job = f->waiting;
        if (job == NULL) {
            break;
        }
        pthread_mutex_unlock(&f->lock);
        write_one(f, job);
        pthread_mutex_lock(&f->lock);
        f->waiting = job->next;
        append(&f->done, job);
        pthread_cond_broadcast(&f->changed);
    }
    pthread_mutex_unlock(&f->lock);
    return NULL;
}

/* Files that begin the prompt of a new one, or have its name. */
static void remove_covered(struct mp_kv_folder *f, const struct kv_file *by)
{
    for (int i = f->count - 1; i >= 0; i--) {
        const struct kv_file *file = &f->files[i];
        bool same = strcmp(file->path, by->path) == 0;
        if (!same &&
            mp_common_tokens(file->ids, file->tokens, by->ids, by->tokens) < file->tokens) {
            continue;
        }
        if (!same && unlink(file->path) != 0 && errno != ENOENT) {
            mp_log(MP_LOG_WARNING, "%s: cannot be removed: %s", file->path, strerror(errno));
        }
        forget(f, i);
    }
}

static void take_written(struct mp_kv_folder *f, struct job *job)
{
    const struct mp_segment *s = job->segment;
    if (job->code == 0) {
        struct kv_file file = copy_of(&(struct kv_file){job->path, s->ids, s->tokens, job->bytes});
        remove_covered(f, &file);
        add_file(f, &file);
    } else {
        mp_log(MP_LOG_WARNING, "%s; a prompt is not kept for later runs", job->err.message);
    }
    job->segment->writing = false;
    mp_segment_unref(f->engine, job->segment);
    free(job->path);
    free(job);
}

void mp_kv_folder_collect(struct mp_kv_folder *f, bool wait)
{
    pthread_mutex_lock(&f->lock);
    while (wait && f->waiting != NULL) {
        pthread_cond_wait(&f->changed, &f->lock);
    }
    struct job *done = f->done;
    f->done = NULL;
    pthread_mutex_unlock(&f->lock);
    while (done != NULL) {
        struct job *job = done;
        done = job->next;
        take_written(f, job);
    }
}

/* Named after all that it depends on. */
static char *path_of(const struct mp_kv_folder *f, const struct mp_segment *s)
{
    const char *model = f->engine->prefixes->model;
    const char *settings = f->engine->prefixes->settings;
    uint64_t hash = mp_hash_bytes(MP_HASH_START, model, strlen(model));
    hash = mp_hash_bytes(hash, settings, strlen(settings));
    hash = mp_hash_bytes(hash, s->ids, (size_t)s->tokens * sizeof *s->ids);
    return mp_xasprintf("%s/%016llx" KV_SUFFIX, f->path, (unsigned long long)hash);
}

/* Whether it waits to be written already. */
static bool is_coming(struct mp_kv_folder *f, const struct mp_segment *s)
{
    bool coming = false;
    pthread_mutex_lock(&f->lock);
    for (const struct job *job = f->waiting; job != NULL; job = job->next) {
        const struct mp_segment *own = job->segment;
        coming = coming || mp_common_tokens(own->ids, own->tokens, s->ids, s->tokens) == s->tokens;
    }
    pthread_mutex_unlock(&f->lock);
    return coming;
}

static void enqueue(struct mp_kv_folder *f, struct mp_segment *s, int64_t bytes)
{
    struct job *job = mp_xcalloc(1, sizeof *job);
    *job = (struct job){.segment = s, .path = path_of(f, s), .bytes = bytes};
    mp_segment_ref(s);
    s->writing = true;
    pthread_mutex_lock(&f->lock);
    append(&f->waiting, job);
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
}

void mp_kv_folder_save(struct mp_kv_folder *f, struct mp_segment *s)
{
    int64_t most;
    mp_kv_folder_collect(f, false);
    int best = find_present(f, s->ids, s->tokens, &most);
    if (best >= 0 && most == s->tokens) {
        mark_used(f->files[best].path);
        return;
    }
    int64_t limit = f->engine->config->kv_dir_size;
    int64_t bytes = kv_file_bytes(f->engine, s);
    if (limit > 0 && bytes > limit) {
        mp_log(MP_LOG_WARNING,
               "runtime.kv_dir_size: found %lld bytes, but a prompt of %lld tokens takes %lld",
               (long long)limit, (long long)s->tokens, (long long)bytes);
    } else if (!is_coming(f, s)) {
        enqueue(f, s, bytes);
    }
}

/* ---- life ---- */

int mp_kv_folder_open(const struct mp_engine *e, struct mp_kv_folder **out, struct mp_error *err)
{
    struct mp_kv_folder *f = mp_xcalloc(1, sizeof *f);
    f->engine = e;
    f->path = e->config->kv_dir;
    sched_getaffinity(0, sizeof f->cpus, &f->cpus);
    e->prefixes->model = mp_engine_fingerprint(e);
    e->prefixes->settings = kv_settings(e);
    int code = mp_file_make_folders(f->path, err);
    if (code == 0) {
        int lock = kv_dir_lock(f->path);
        code = look_through(f, true, err);
        kv_dir_unlock(lock);
    }
    if (code != 0) {
        free(f);
        return code;
    }
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->changed, NULL);
    if (pthread_create(&f->writer, NULL, write_all, f) != 0) {
        mp_give_up("no memory for a thread");
    }
    *out = f;
    return 0;
}

void mp_kv_folder_close(struct mp_kv_folder *f)
{
    if (f == NULL) {
        return;
    }
    mp_kv_folder_collect(f, true);
    pthread_mutex_lock(&f->lock);
    f->stop = true;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
    pthread_join(f->writer, NULL);
    pthread_mutex_destroy(&f->lock);
    pthread_cond_destroy(&f->changed);
    while (f->count > 0) {
        forget(f, f->count - 1);
    }
    kv_dir_list_free(&f->seen);
    free(f->files);
    free(f);
}
