#include "pipeline/engine/prefixes/kv_folder.h"

#include "core/base/file.h"
#include "core/base/hash.h"
#include "core/base/log.h"
#include "core/base/memory.h"
#include "pipeline/engine/prefixes/kv_layout.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SUFFIX ".kv"

/* A file of the folder. */
struct entry {
    struct kv_file file; /* ids NULL: of no use to this engine; it only takes room */
    struct timespec used;
};

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
    struct entry *entries; /* [count] */
    int count;
    pthread_t writer;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t changed;
    struct job *waiting; /* the first one is being written */
    struct job *done;
    bool stop; /* once nothing waits */
};

/* ---- entries ---- */

static void add_entry(struct mp_kv_folder *f, const struct kv_file *file, struct timespec used)
{
    f->entries = mp_xrealloc(f->entries, (size_t)f->count + 1, sizeof *f->entries);
    f->entries[f->count++] = (struct entry){*file, used};
}

static void drop_entry(struct mp_kv_folder *f, int i)
{
    kv_file_free(&f->entries[i].file);
    f->entries[i] = f->entries[--f->count];
}

static void remove_entry(struct mp_kv_folder *f, int i)
{
    if (unlink(f->entries[i].file.path) != 0 && errno != ENOENT) {
        mp_log(MP_LOG_WARNING, "%s: cannot be removed: %s", f->entries[i].file.path,
               strerror(errno));
    }
    drop_entry(f, i);
}

static int64_t common_tokens(const struct kv_file *file, const int32_t *ids, int64_t count)
{
    return file->ids == NULL ? 0 : mp_common_tokens(file->ids, file->tokens, ids, count);
}

const struct kv_file *mp_kv_folder_find(const struct mp_kv_folder *f, const int32_t *ids,
                                        int64_t count)
{
    const struct kv_file *best = NULL;
    int64_t most = 0;
    for (int i = 0; i < f->count; i++) {
        int64_t common = common_tokens(&f->entries[i].file, ids, count);
        if (common > most) {
            most = common;
            best = &f->entries[i].file;
        }
    }
    return best;
}

static int index_of(const struct mp_kv_folder *f, const struct kv_file *file)
{
    int i = 0;
    while (&f->entries[i].file != file) {
        i++;
    }
    return i;
}

/* The time is kept with the file, for later runs. */
static void mark_used(struct entry *entry)
{
    int not_kept = utimensat(AT_FDCWD, entry->file.path, NULL, 0);
    (void)not_kept; /* which is not worth an error */
    clock_gettime(CLOCK_REALTIME, &entry->used);
}

int mp_kv_folder_load(struct mp_kv_folder *f, const struct kv_file *file,
                      const struct mp_layer_kv *layers, struct mp_error *err)
{
    struct entry *entry = &f->entries[index_of(f, file)];
    int code = kv_file_load(f->engine, file, layers, &f->cpus, err);
    if (code == 0) {
        mark_used(entry);
    } else {
        free(entry->file.ids);
        entry->file.ids = NULL;
    }
    return code;
}

/* ---- looking through the folder ---- */

/* What a process that is no more was writing: "NAME.kv.PID.new". */
static void remove_unfinished(const struct mp_kv_folder *f, const char *name)
{
    const char *pid = strstr(name, SUFFIX ".");
    char *end;
    long number = pid == NULL ? 0 : strtol(pid + strlen(SUFFIX "."), &end, 10);
    if (number > 0 && strcmp(end, ".new") == 0 && kill((pid_t)number, 0) != 0 && errno == ESRCH) {
        char *path = mp_xasprintf("%s/%s", f->path, name);
        unlink(path);
        free(path);
    }
}

static void look_at(struct mp_kv_folder *f, const char *name)
{
    struct mp_error err;
    struct stat st = {0};
    struct kv_file file;
    char *path = mp_xasprintf("%s/%s", f->path, name);
    int code = stat(path, &st) == 0 && S_ISREG(st.st_mode)
                   ? kv_file_open(f->engine, path, &file, &err)
                   : mp_fail(&err, MP_ERR_IO, "%s: expected a file", path);
    if (code != 0) {
        mp_log(code == MP_ERR_UNSUPPORTED ? MP_LOG_INFO : MP_LOG_WARNING, "%s; not used",
               err.message);
        file = (struct kv_file){.path = mp_xstrdup(path), .bytes = (int64_t)st.st_size};
    }
    if (code != MP_ERR_IO) {
        add_entry(f, &file, st.st_mtim);
    } else {
        kv_file_free(&file);
    }
    free(path);
}

static int look_through(struct mp_kv_folder *f, struct mp_error *err)
{
    DIR *dir = opendir(f->path);
    if (dir == NULL) {
        return mp_fail(err, MP_ERR_IO, "runtime.kv_dir: %s: %s", f->path, strerror(errno));
    }
    for (const struct dirent *d = readdir(dir); d != NULL; d = readdir(dir)) {
        size_t length = strlen(d->d_name);
        if (length > strlen(SUFFIX) && strcmp(d->d_name + length - strlen(SUFFIX), SUFFIX) == 0) {
            look_at(f, d->d_name);
        } else {
            remove_unfinished(f, d->d_name);
        }
    }
    closedir(dir);
    return 0;
}

/* ---- writing ---- */

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
        job->code = kv_file_write(f->engine, job->segment, job->path, &job->err);
        pthread_mutex_lock(&f->lock);
        f->waiting = job->next;
        job->next = f->done;
        f->done = job;
        pthread_cond_broadcast(&f->changed);
    }
    pthread_mutex_unlock(&f->lock);
    return NULL;
}

/* Files that begin the prompt of a new one, or have its name. */
static void remove_covered(struct mp_kv_folder *f, const struct kv_file *by)
{
    for (int i = f->count - 1; i >= 0; i--) {
        const struct kv_file *file = &f->entries[i].file;
        if (strcmp(file->path, by->path) == 0) {
            drop_entry(f, i);
        } else if (file->ids != NULL && common_tokens(file, by->ids, by->tokens) == file->tokens) {
            remove_entry(f, i);
        }
    }
}

/* The file of a job that went well, which takes over its path. */
static struct kv_file written_file(struct job *job)
{
    const struct mp_segment *s = job->segment;
    struct kv_file file = {.path = job->path, .tokens = s->tokens, .bytes = job->bytes};
    file.ids = mp_xcalloc((size_t)s->tokens, sizeof *file.ids);
    memcpy(file.ids, s->ids, (size_t)s->tokens * sizeof *file.ids);
    job->path = NULL;
    return file;
}

static void take_written(struct mp_kv_folder *f, struct job *job)
{
    if (job->code == 0) {
        struct kv_file file = written_file(job);
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        remove_covered(f, &file);
        add_entry(f, &file, now);
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

/* Bytes of the files that are no entries yet. */
static int64_t coming_bytes(struct mp_kv_folder *f)
{
    int64_t bytes = 0;
    pthread_mutex_lock(&f->lock);
    const struct job *const lists[] = {f->waiting, f->done};
    for (int i = 0; i < 2; i++) {
        for (const struct job *job = lists[i]; job != NULL; job = job->next) {
            bytes += job->bytes;
        }
    }
    pthread_mutex_unlock(&f->lock);
    return bytes;
}

/* Whether a file of so many bytes can be added, when those that were not used for the longest time
 * are removed: what still waits is written first, if there is no room beside it. */
static bool make_room(struct mp_kv_folder *f, int64_t bytes)
{
    int64_t limit = f->engine->config->kv_dir_size;
    if (limit == 0 || bytes > limit) {
        return limit == 0;
    }
    int64_t used = coming_bytes(f);
    if (used + bytes > limit) {
        mp_kv_folder_collect(f, true);
        used = 0;
    }
    for (int i = 0; i < f->count; i++) {
        used += f->entries[i].file.bytes;
    }
    while (used + bytes > limit && f->count > 0) {
        int oldest = 0;
        for (int i = 1; i < f->count; i++) {
            const struct timespec *a = &f->entries[i].used;
            const struct timespec *b = &f->entries[oldest].used;
            bool older = a->tv_sec != b->tv_sec ? a->tv_sec < b->tv_sec : a->tv_nsec < b->tv_nsec;
            oldest = older ? i : oldest;
        }
        used -= f->entries[oldest].file.bytes;
        remove_entry(f, oldest);
    }
    return used + bytes <= limit;
}

static int64_t bytes_of(const struct mp_engine *e, const struct mp_segment *s)
{
    struct kv_layout l;
    kv_layout_make(e, s->layers, s->ids, s->tokens, &l);
    char *header = kv_layout_header(e, &l, s->tokens);
    size_t bytes = 8 + strlen(header) + 8 * (1 + (size_t)l.count);
    for (int i = 0; i < l.count; i++) {
        bytes += kv_tensor_bytes(&l.tensors[i]);
    }
    free(header);
    kv_layout_free(&l);
    return (int64_t)bytes;
}

/* Named after all that it depends on. */
static char *path_of(const struct mp_kv_folder *f, const struct mp_segment *s)
{
    const char *model = f->engine->prefixes->model;
    const char *settings = f->engine->prefixes->settings;
    uint64_t hash = mp_hash_bytes(MP_HASH_START, model, strlen(model));
    hash = mp_hash_bytes(hash, settings, strlen(settings));
    hash = mp_hash_bytes(hash, s->ids, (size_t)s->tokens * sizeof *s->ids);
    return mp_xasprintf("%s/%016llx" SUFFIX, f->path, (unsigned long long)hash);
}

void mp_kv_folder_save(struct mp_kv_folder *f, struct mp_segment *s)
{
    mp_kv_folder_collect(f, false);
    for (int i = 0; i < f->count; i++) {
        if (common_tokens(&f->entries[i].file, s->ids, s->tokens) == s->tokens) {
            mark_used(&f->entries[i]);
            return;
        }
    }
    int64_t bytes = bytes_of(f->engine, s);
    if (!make_room(f, bytes)) {
        mp_log(MP_LOG_WARNING,
               "runtime.kv_dir_size: found %lld bytes, but a prompt of %lld tokens takes %lld",
               (long long)f->engine->config->kv_dir_size, (long long)s->tokens, (long long)bytes);
        return;
    }
    struct job *job = mp_xcalloc(1, sizeof *job);
    *job = (struct job){.segment = s, .path = path_of(f, s), .bytes = bytes};
    mp_segment_ref(s);
    s->writing = true;
    pthread_mutex_lock(&f->lock);
    struct job **end = &f->waiting;
    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = job;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
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
        code = look_through(f, err);
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
        drop_entry(f, f->count - 1);
    }
    free(f->entries);
    free(f);
}
