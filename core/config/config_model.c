/* Where the model named in the configuration lies. */
#include "core/config/config.h"

#include "core/base/file.h"
#include "core/base/memory.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_REF_BYTES = 4096 };

/* The places tried so far and the first one that held a model. */
struct search {
    char *found; /* NULL until then */
    char tried[900];
};

/* Looks into a directory, which it takes over, unless one was found before. */
static void try_directory(struct search *s, char *directory)
{
    if (s->found == NULL) {
        char *config = mp_xasprintf("%s/config.json", directory);
        bool is_model = access(config, R_OK) == 0;
        free(config);
        if (is_model) {
            s->found = directory;
            return;
        }
        size_t used = strlen(s->tried);
        snprintf(s->tried + used, sizeof s->tried - used, "%s%s", used > 0 ? ", " : "", directory);
    }
    free(directory);
}

/* The first word of refs/main, the commit that the cache's snapshot is named after; NULL if there
 * is none that can be. */
static char *read_commit(const char *repository)
{
    char *path = mp_xasprintf("%s/refs/main", repository);
    char *text = NULL;
    size_t length;
    int rc = mp_file_read(path, MAX_REF_BYTES, &text, &length, NULL);
    free(path);
    if (rc != MP_OK) {
        return NULL;
    }
    text[strcspn(text, " \t\r\n")] = '\0';
    if (text[0] == '\0' || strchr(text, '/') != NULL || strstr(text, "..") != NULL) {
        free(text);
        return NULL;
    }
    return text;
}

static int is_name(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

/* The only one of the snapshots, as downloads of a commit by its number leave it, without a ref; or
 * what to say of them. The caller's. */
static char *only_snapshot(const char *repository)
{
    char *folder = mp_xasprintf("%s/snapshots", repository);
    struct dirent **entries = NULL;
    int count = scandir(folder, &entries, is_name, alphasort);
    char *snapshot = count == 1 ? mp_xasprintf("%s/%s", folder, entries[0]->d_name)
                     : count > 1
                         ? mp_xasprintf("%s/* (%d, of which refs/main names none)", folder, count)
                         : mp_xasprintf("%s/<refs/main>", folder);
    for (int i = 0; i < count; i++) {
        free(entries[i]);
    }
    free(entries);
    free(folder);
    return snapshot;
}

/* Looks for "org/name" in one Hugging Face cache: <hub>/models--org--name/snapshots/<commit>. */
static void try_hub(struct search *s, const char *hub, const char *name)
{
    const char *slash = strchr(name, '/');
    char *repository =
        mp_xasprintf("%s/models--%.*s--%s", hub, (int)(slash - name), name, slash + 1);
    char *commit = read_commit(repository);
    try_directory(s, commit != NULL ? mp_xasprintf("%s/snapshots/%s", repository, commit)
                                    : only_snapshot(repository));
    free(commit);
    free(repository);
}

/* "org/name": one slash inside, and no path such as "./name". */
static bool is_hub_name(const char *path)
{
    const char *slash = strchr(path, '/');
    return slash != NULL && slash != path && slash[1] != '\0' && strchr(slash + 1, '/') == NULL &&
           path[0] != '.' && path[0] != '~';
}

static void try_hubs(struct search *s, const char *name)
{
    static const struct {
        const char *variable;
        const char *below;
    } places[] = {{"HF_HUB_CACHE", ""},
                  {"HF_HOME", "/hub"},
                  {"XDG_CACHE_HOME", "/huggingface/hub"},
                  {"HOME", "/.cache/huggingface/hub"}};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        const char *base = getenv(places[i].variable);
        if (base != NULL && base[0] != '\0') {
            char *hub = mp_xasprintf("%s%s", base, places[i].below);
            try_hub(s, hub, name);
            free(hub);
        }
    }
}

int mp_config_resolve_model(const char *model_path, const char *config_dir, char **out,
                            struct mp_error *err)
{
    struct search s = {0};
    if (config_dir != NULL && model_path[0] != '/') {
        try_directory(&s, mp_xasprintf("%s/%s", config_dir, model_path));
    }
    try_directory(&s, mp_xstrdup(model_path));
    if (is_hub_name(model_path)) {
        try_hubs(&s, model_path);
    }
    if (s.found == NULL) {
        return mp_fail(err, MP_ERR_IO,
                       "model \"%s\": no directory with a config.json found; tried %s", model_path,
                       s.tried);
    }
    *out = s.found;
    return MP_OK;
}
