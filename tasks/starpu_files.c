#include "tasks/starpu_files.h"

#include "core/base/file.h"
#include "core/base/memory.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- what is in a file ---- */

enum { MOST_BYTES = 1 << 20 };

/* Passes over the numbers at the start of a line, at most `limit`; *count is how many they are. */
static const char *skip_numbers(const char *line, int limit, int *count)
{
    for (*count = 0; *count < limit; ++*count) {
        line += strspn(line, " \t");
        char *end;
        strtod(line, &end);
        if (*line == '\n' || end == line) {
            break;
        }
        line = end;
    }
    return line + strspn(line, " \t");
}

/* The lines of a file that are no comments: NULL after the last. */
static const char *next_row(const char *text)
{
    while (*text == '#') {
        text = strchr(text, '\n') + 1;
    }
    return *text != '\0' ? text : NULL;
}

/* Latencies or bandwidths between every two memory nodes: as many rows as columns. */
static bool is_table(const char *text)
{
    int rows = 0;
    int columns = 0;
    for (const char *row = text; (row = next_row(row)) != NULL; rows++) {
        int count;
        row = skip_numbers(row, INT_MAX, &count);
        if (*row++ != '\n' || count == 0 || (rows > 0 && count != columns)) {
            return false;
        }
        columns = count;
    }
    return rows > 0 && rows == columns;
}

/* How many CPUs, NUMA nodes, CUDA and OpenCL devices there were, each at the start of a line; those
 * of other kinds may follow. The number of the latter two; -1: not whole. */
static long devices_of(const char *text)
{
    enum { CPUS, NODES, CUDA, OPENCL, FIELDS };
    long values[FIELDS] = {0};
    int fields = 0;
    for (const char *row = text; (row = next_row(row)) != NULL; row = strchr(row, '\n') + 1) {
        int count;
        skip_numbers(row, 1, &count);
        if (count != 1) {
            return -1;
        }
        if (fields < FIELDS) {
            values[fields++] = strtol(row, NULL, 10);
        }
    }
    bool known = fields == FIELDS && values[CUDA] >= 0 && values[CUDA] < INT_MAX &&
                 values[OPENCL] >= 0 && values[OPENCL] < INT_MAX;
    return known ? values[CUDA] + values[OPENCL] : -1;
}

/* Of each device its number and the NUMA nodes, nearest first. */
static bool is_affinity(const char *text, long devices)
{
    long rows = 0;
    bool whole = strncmp(text, "# GPU\tNUMA", 10) == 0;
    for (const char *row = text; whole && (row = next_row(row)) != NULL; rows++) {
        int count;
        row = skip_numbers(row, INT_MAX, &count);
        whole = *row++ == '\n' && count >= 2;
    }
    return whole && rows >= devices;
}

/* ---- the files of a folder ---- */

enum { CONFIG, AFFINITY, LATENCY, BANDWIDTH, PLATFORM_3, PLATFORM_4, NUM_FILES };

/* The configuration first: where it is missing StarPU measures all of them, so that it does not
 * matter where a removal is interrupted. */
static const char *const SUFFIXES[NUM_FILES] = {
    [CONFIG] = "config",       [AFFINITY] = "affinity",       [LATENCY] = "latency",
    [BANDWIDTH] = "bandwidth", [PLATFORM_3] = "platform.xml", [PLATFORM_4] = "platform.v4.xml",
};

/* Named after this machine as StarPU names it: $STARPU_HOSTNAME, or the host up to the first dot.
 */
static char *path_of(const char *folder, int file)
{
    char host[64] = "";
    const char *forced = getenv("STARPU_HOSTNAME");
    if (forced == NULL || forced[0] == '\0') {
        gethostname(host, sizeof host - 1);
        host[strcspn(host, ".")] = '\0';
        forced = host;
    }
    return mp_xasprintf("%s/bus/%.63s.%s", folder, forced, SUFFIXES[file]);
}

/* NULL: the file is not there, or no text that ends with a line. */
static char *text_of(const char *folder, int file)
{
    char *path = path_of(folder, file);
    char *text = NULL;
    size_t length = 0;
    bool whole = access(path, R_OK | W_OK) == 0 &&
                 mp_file_read(path, MOST_BYTES, &text, &length, NULL) == 0 && length > 0 &&
                 strlen(text) == length && text[length - 1] == '\n';
    free(path);
    if (!whole) {
        free(text);
        return NULL;
    }
    return text;
}

/* An affinity file is not written by a StarPU that knows no devices. StarPU writes the platform
 * files and never reads them. */
static bool are_whole(const char *folder)
{
    char *texts[PLATFORM_3];
    for (int i = 0; i < PLATFORM_3; i++) {
        texts[i] = text_of(folder, i);
    }
    long devices = texts[CONFIG] != NULL ? devices_of(texts[CONFIG]) : -1;
    char *affinity = path_of(folder, AFFINITY);
    bool whole = devices >= 0 && texts[LATENCY] != NULL && is_table(texts[LATENCY]) &&
                 texts[BANDWIDTH] != NULL && is_table(texts[BANDWIDTH]) &&
                 (texts[AFFINITY] != NULL ? is_affinity(texts[AFFINITY], devices)
                                          : devices == 0 && access(affinity, F_OK) != 0);
    free(affinity);
    for (int i = 0; i < PLATFORM_3; i++) {
        free(texts[i]);
    }
    return whole;
}

int mp_starpu_files_check(const char *folder, bool *missing, struct mp_error *err)
{
    *missing = !are_whole(folder);
    int code = MP_OK;
    for (int i = 0; i < NUM_FILES && *missing && code == MP_OK; i++) {
        char *path = path_of(folder, i);
        if (unlink(path) != 0 && errno != ENOENT) {
            code = mp_fail(err, MP_ERR_IO, "%s: StarPU cannot use it, and it cannot be removed: %s",
                           path, strerror(errno));
        }
        free(path);
    }
    return code;
}
