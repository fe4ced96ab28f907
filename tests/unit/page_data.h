/* The data in a page that the program wrote. */
#ifndef MP_TESTS_PAGE_DATA_H
#define MP_TESTS_PAGE_DATA_H

#include "core/base/file.h"
#include "core/base/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Its JSON; the caller's. */
static inline char *page_data(const char *path)
{
    static const char open[] = "<script type=\"application/json\" id=\"data\">";
    char *page;
    size_t length;
    struct mp_error err;
    assert_int_equal(mp_file_read(path, 64 << 20, &page, &length, &err), MP_OK);
    const char *begin = strstr(page, open);
    assert_non_null(begin);
    begin += strlen(open);
    /* As a browser does: the first end tag ends the data. */
    const char *end = strstr(begin, "</script");
    assert_non_null(end);
    char *data = mp_xstrndup(begin, (size_t)(end - begin));
    free(page);
    return data;
}

#endif
