/* Runs a fuzz target on all files of the folders that are named, without libFuzzer. */
#include "fuzz.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

static int count;

static void run_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    struct stat status;
    if (f == NULL || fstat(fileno(f), &status) != 0) {
        mp_panic("%s: cannot read", path);
    }
    size_t size = (size_t)status.st_size;
    uint8_t *data = malloc(size > 0 ? size : 1); /* no byte to spare: overruns are seen */
    if (data == NULL || fread(data, 1, size, f) != size) {
        mp_panic("%s: cannot read %zu bytes", path, size);
    }
    fclose(f);
    fprintf(stderr, "%s\n", path);
    LLVMFuzzerTestOneInput(data, size);
    free(data);
    count++;
}

static void run_folder(const char *folder)
{
    struct dirent **entries;
    int n = scandir(folder, &entries, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        char path[4096];
        struct stat status;
        snprintf(path, sizeof path, "%s/%s", folder, entries[i]->d_name);
        if (stat(path, &status) == 0 && S_ISREG(status.st_mode)) {
            run_file(path);
        }
        free(entries[i]);
    }
    if (n >= 0) {
        free(entries);
    }
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        run_folder(argv[i]);
    }
    printf("%d inputs\n", count);
    return count > 0 ? 0 : 1;
}
