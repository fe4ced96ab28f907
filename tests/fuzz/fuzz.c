#include "fuzz.h"

#include "core/base/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

const char *fuzz_file(const uint8_t *data, size_t size)
{
    static int fd = -1;
    static char path[64];
    if (fd < 0) {
        fd = memfd_create("input", 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    if (fd < 0 || ftruncate(fd, 0) != 0 || pwrite(fd, data, size, 0) != (ssize_t)size) {
        mp_panic("no file in memory");
    }
    return path;
}

void fuzz_check_error(int code, const struct mp_error *err)
{
    size_t length = strlen(err->message);
    if (code != (int)err->code || length == 0) {
        mp_panic("returned %d with code %d and \"%s\"", code, (int)err->code, err->message);
    }
    for (size_t at = 0; at < length;) {
        int n = mp_utf8_next(err->message + at, length - at);
        if (n <= 0) {
            mp_panic("no UTF-8: \"%s\"", err->message);
        }
        at += (size_t)n;
    }
}
