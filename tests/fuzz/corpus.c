/* Runs a fuzz target without libFuzzer: on all files of the folders that are named, then on changed
 * ones: fuzz_TARGET [--mutations COUNT] FOLDER... The input that it ends at is left in fuzz_found.
 */
#include "core/base/memory.h"
#include "fuzz.h"
#include "mutate.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct fuzz_bytes *inputs; /* [count] */
static size_t count;
static struct fuzz_bytes current;

/* ---- what is found ---- */

static void save(void)
{
    int fd = open("fuzz_found", O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd >= 0 && write(fd, current.data, current.size) == (ssize_t)current.size) {
        static const char said[] = "the input is in fuzz_found\n";
        (void)!write(STDERR_FILENO, said, sizeof said - 1);
    }
}

static void save_and_die(int sig)
{
    save();
    signal(sig, SIG_DFL);
    raise(sig);
}

/* Of the sanitizers, in builds that have them. */
extern void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

static void save_what_ends_it(void)
{
    signal(SIGABRT, save_and_die);
    if (__sanitizer_set_death_callback != NULL) {
        __sanitizer_set_death_callback(save);
    } else {
        signal(SIGSEGV, save_and_die);
        signal(SIGFPE, save_and_die);
    }
}

/* ---- inputs ---- */

static void read_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    struct stat status;
    if (f == NULL || fstat(fileno(f), &status) != 0) {
        mp_panic("%s: cannot read", path);
    }
    size_t size = (size_t)status.st_size;
    uint8_t *data = mp_xmalloc(size > 0 ? size : 1); /* no byte to spare: overruns are seen */
    if (fread(data, 1, size, f) != size) {
        mp_panic("%s: cannot read %zu bytes", path, size);
    }
    fclose(f);
    inputs = mp_xrealloc(inputs, count + 1, sizeof *inputs);
    inputs[count++] = (struct fuzz_bytes){data, size};
}

static void read_folder(const char *folder)
{
    struct dirent **entries;
    int n = scandir(folder, &entries, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        char path[4096];
        struct stat status;
        snprintf(path, sizeof path, "%s/%s", folder, entries[i]->d_name);
        if (stat(path, &status) == 0 && S_ISREG(status.st_mode)) {
            read_file(path);
        }
        free(entries[i]);
    }
    if (n >= 0) {
        free(entries);
    }
}

static void run_changed(uint64_t number)
{
    uint64_t state = number;
    const struct fuzz_bytes *from = &inputs[fuzz_draw(&state, count)];
    const struct fuzz_bytes *other = &inputs[fuzz_draw(&state, count)];
    current = (struct fuzz_bytes){mp_xmalloc(from->size > 0 ? from->size : 1), from->size};
    memcpy(current.data, from->data, from->size);
    fuzz_mutate(&current, other, &state);
    LLVMFuzzerTestOneInput(current.data, current.size);
    free(current.data);
}

int main(int argc, char **argv)
{
    int first = 1;
    uint64_t mutations = 0;
    if (argc > 2 && strcmp(argv[1], "--mutations") == 0) {
        mutations = strtoull(argv[2], NULL, 10);
        first = 3;
    }
    for (int i = first; i < argc; i++) {
        read_folder(argv[i]);
    }
    if (count == 0) {
        return 1;
    }
    save_what_ends_it();
    for (size_t i = 0; i < count; i++) {
        current = inputs[i];
        LLVMFuzzerTestOneInput(current.data, current.size);
    }
    for (uint64_t i = 0; i < mutations; i++) {
        run_changed(i);
    }
    printf("%zu inputs, %llu changed ones\n", count, (unsigned long long)mutations);
    for (size_t i = 0; i < count; i++) {
        free(inputs[i].data);
    }
    free(inputs);
    return 0;
}
