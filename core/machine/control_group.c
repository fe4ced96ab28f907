#include "core/machine/control_group.h"

#include "core/base/memory.h"

#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- where the groups are ---- */

/* A group's folder, which is in that of the group around it, up to the first one that can be seen.
 */
struct group {
    char *folder; /* NULL: there is none */
    size_t top;   /* length of the outermost folder's path */
};

/* Whether a list with commas has the word. */
static bool has_word(const char *list, const char *word)
{
    size_t length = strlen(word);
    for (const char *at = list; at != NULL; at = strchr(at, ',')) {
        at += *at == ',';
        if (strncmp(at, word, length) == 0 && strchr(",\n", at[length]) != NULL) {
            return true;
        }
    }
    return false;
}

/* The path behind the last colon of "4:cpu,cpuacct:/path", or of "0::/path" for version 2. The
 * caller's; NULL if the process is in no such group. */
static char *read_path(const char *root, const char *controller)
{
    char *name = mp_xasprintf("%s/proc/self/cgroup", root);
    FILE *file = fopen(name, "r");
    char *line = NULL;
    size_t room = 0;
    char *path = NULL;
    free(name);
    while (file != NULL && path == NULL && getline(&line, &room, file) > 0) {
        char *list = strchr(line, ':');
        char *end = list != NULL ? strchr(list + 1, ':') : NULL;
        if (end == NULL) {
            continue;
        }
        *end = '\0';
        bool found = controller == NULL ? strncmp(line, "0:", 2) == 0 && list + 1 == end
                                        : has_word(list + 1, controller);
        if (found) {
            path = mp_xstrndup(end + 1, strcspn(end + 1, "\n"));
        }
    }
    free(line);
    if (file != NULL) {
        fclose(file);
    }
    return path;
}

/* Of a line of mountinfo, "id parent major:minor root point options ... - type source options": if
 * it mounts the groups of this controller, what is mounted and where. */
static bool parse_mount(char *line, const char *controller, char **from, char **point)
{
    char *fields[5];
    char *rest = line;
    for (int i = 0; i < 5; i++) {
        fields[i] = strtok_r(rest, " ", &rest);
        if (fields[i] == NULL) {
            return false;
        }
    }
    char *type = strstr(rest, " - ");
    if (type == NULL) {
        return false;
    }
    type += 3;
    const char *options = strrchr(type, ' ');
    *from = fields[3];
    *point = fields[4];
    return controller == NULL
               ? strncmp(type, "cgroup2 ", 8) == 0
               : strncmp(type, "cgroup ", 7) == 0 && has_word(options + 1, controller);
}

/* The folder of a group by its path in its hierarchy, of which a container may see a part alone. */
static struct group place(const char *root, const char *path, const char *from, const char *point)
{
    size_t hidden = strcmp(from, "/") == 0 ? 0 : strlen(from);
    bool seen = strncmp(path, from, hidden) == 0 && strchr("/", path[hidden]) != NULL &&
                strstr(path, "/..") == NULL;
    const char *below = seen && strcmp(path + hidden, "/") != 0 ? path + hidden : "";
    char *folder = mp_xasprintf("%s%s%s", root, point, below);
    return (struct group){folder, strlen(folder) - strlen(below)};
}

/* The process's group of a controller of version 1, or with NULL of version 2. */
static struct group find_group(const char *root, const char *controller)
{
    struct group group = {0};
    char *path = read_path(root, controller);
    if (path == NULL) {
        return group;
    }
    char *name = mp_xasprintf("%s/proc/self/mountinfo", root);
    FILE *file = fopen(name, "r");
    char *line = NULL;
    size_t room = 0;
    while (file != NULL && group.folder == NULL && getline(&line, &room, file) > 0) {
        char *from, *point;
        if (parse_mount(line, controller, &from, &point)) {
            group = place(root, path, from, point);
        }
    }
    free(line);
    free(name);
    free(path);
    if (file != NULL) {
        fclose(file);
    }
    return group;
}

/* Goes to the group around this one; false if it cannot be seen. */
static bool leave(struct group *group)
{
    char *slash = strrchr(group->folder, '/');
    if (slash == NULL || strlen(group->folder) <= group->top) {
        return false;
    }
    *slash = '\0';
    return true;
}

/* ---- numbers ---- */

int64_t mp_kernel_number(const char *path, const char *key)
{
    FILE *f = fopen(path, "r");
    int64_t value = -1;
    char line[256];
    size_t n = strlen(key);
    while (f != NULL && value < 0 && fgets(line, sizeof line, f) != NULL) {
        if (strncmp(line, key, n) == 0 && sscanf(line + n, "%" SCNd64, &value) != 1) {
            value = -1;
        }
    }
    if (f != NULL) {
        fclose(f);
    }
    return value;
}

static int64_t number_in(const struct group *group, const char *name, const char *key)
{
    char *path = mp_xasprintf("%s/%s", group->folder, name);
    int64_t value = mp_kernel_number(path, key);
    free(path);
    return value;
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* "quota period" in one file; "max" instead of the quota: there is none. */
static void read_quota(const struct group *group, int64_t *quota, int64_t *period)
{
    char *path = mp_xasprintf("%s/cpu.max", group->folder);
    FILE *f = fopen(path, "r");
    *quota = *period = -1;
    if (f != NULL) {
        if (fscanf(f, "%" SCNd64 " %" SCNd64, quota, period) != 2) {
            *quota = -1;
        }
        fclose(f);
    }
    free(path);
}

/* INT64_MAX: no quota. */
static int64_t cpus_of(const struct group *group, bool first_version)
{
    int64_t quota;
    int64_t period;
    if (first_version) {
        quota = number_in(group, "cpu.cfs_quota_us", "");
        period = number_in(group, "cpu.cfs_period_us", "");
    } else {
        read_quota(group, &quota, &period);
    }
    return quota > 0 && period > 0 ? (quota - 1) / period + 1 : INT64_MAX;
}

static int64_t memory_of(const struct group *group, bool first_version)
{
    static const char *const names[2][4] = {
        {"memory.max", "memory.current", "inactive_file ", "active_file "},
        {"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file ",
         "total_active_file "},
    };
    const char *const *name = names[first_version];
    int64_t limit = number_in(group, name[0], "");
    int64_t used = number_in(group, name[1], "");
    if (limit < 0 || used < 0) {
        return INT64_MAX;
    }
    for (int i = 2; i < 4; i++) {
        int64_t cached = number_in(group, "memory.stat", name[i]);
        used -= cached > 0 ? cached : 0;
    }
    used = used > 0 ? used : 0;
    return limit > used ? limit - used : 0;
}

/* The least of all levels, of both versions. */
static int64_t least_of(const char *root, const char *controller,
                        int64_t (*value_of)(const struct group *, bool))
{
    int64_t value = INT64_MAX;
    for (int first_version = 0; first_version < 2; first_version++) {
        struct group group = find_group(root, first_version ? controller : NULL);
        bool more = group.folder != NULL;
        while (more) {
            value = least(value, value_of(&group, first_version));
            more = leave(&group);
        }
        free(group.folder);
    }
    return value;
}

int mp_control_group_cpus(const char *root)
{
    int64_t cpus = least_of(root, "cpu", cpus_of);
    return cpus < INT_MAX ? (int)cpus : 0;
}

int64_t mp_control_group_memory(const char *root)
{
    return least_of(root, "memory", memory_of);
}
