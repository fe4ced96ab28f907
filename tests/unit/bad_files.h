/* Walks tests/data/bad/<kind>: expected.json maps each file to a part of its error message. */
#ifndef MP_TESTS_BAD_FILES_H
#define MP_TESTS_BAD_FILES_H

#include "core/json/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* Calls read on every file; it must fail with a message that names the file and holds the expected
 * part. */
static inline void check_bad_files(const char *kind,
                                   int (*read)(const char *path, struct mp_error *err))
{
    char path[512];
    snprintf(path, sizeof path, MP_TEST_DATA "/bad/%s/expected.json", kind);
    struct mp_json *expected;
    struct mp_error err;
    if (mp_json_read_file(path, 1 << 20, &expected, &err) != MP_OK) {
        fail_msg("%s", err.message);
    }
    const struct cJSON *v = mp_json_first(mp_json_root(expected));
    for (; v != NULL; v = mp_json_after(v)) {
        const char *part;
        assert_int_equal(mp_json_as_string(expected, v, &part, &err), MP_OK);
        snprintf(path, sizeof path, MP_TEST_DATA "/bad/%s/%s", kind, mp_json_key(v));
        assert_int_equal(access(path, R_OK), 0);
        err = (struct mp_error){.code = MP_OK};
        int rc = read(path, &err);
        if (rc == MP_OK || rc != (int)err.code) {
            fail_msg("%s: returned %d with code %d", path, rc, (int)err.code);
        }
        if (strstr(err.message, mp_json_key(v)) == NULL || strstr(err.message, part) == NULL) {
            fail_msg("%s: expected \"%s\", found \"%s\"", path, part, err.message);
        }
    }
    mp_json_free(expected);
}

#endif
