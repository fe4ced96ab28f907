/* Typed access to an object's members: each getter is a lookup and mp_json_as_* on what it finds.
 */
#include "core/json/json.h"

/* The member, or NULL if it is missing or null. */
static const struct cJSON *find_given(const struct cJSON *object, const char *key)
{
    const struct cJSON *value = mp_json_find(object, key);
    return value == NULL || mp_json_kind(value) == MP_JSON_NULL ? NULL : value;
}

static int fail_missing(const struct mp_json *doc, const struct cJSON *object, const char *key,
                        struct mp_error *err)
{
    return mp_json_fail(doc, object, err, "key \"%s\" is missing", key);
}

int mp_json_get_int(const struct mp_json *doc, const struct cJSON *object, const char *key,
                    int64_t min, int64_t max, int64_t *out, struct mp_error *err)
{
    const struct cJSON *value = mp_json_find(object, key);
    return value == NULL ? fail_missing(doc, object, key, err)
                         : mp_json_as_int(doc, value, min, max, out, err);
}

int mp_json_opt_int(const struct mp_json *doc, const struct cJSON *object, const char *key,
                    int64_t min, int64_t max, int64_t *out, struct mp_error *err)
{
    const struct cJSON *value = find_given(object, key);
    return value == NULL ? MP_OK : mp_json_as_int(doc, value, min, max, out, err);
}

int mp_json_get_number(const struct mp_json *doc, const struct cJSON *object, const char *key,
                       double min, double max, double *out, struct mp_error *err)
{
    const struct cJSON *value = mp_json_find(object, key);
    return value == NULL ? fail_missing(doc, object, key, err)
                         : mp_json_as_number(doc, value, min, max, out, err);
}

int mp_json_opt_number(const struct mp_json *doc, const struct cJSON *object, const char *key,
                       double min, double max, double *out, struct mp_error *err)
{
    const struct cJSON *value = find_given(object, key);
    return value == NULL ? MP_OK : mp_json_as_number(doc, value, min, max, out, err);
}

int mp_json_get_bool(const struct mp_json *doc, const struct cJSON *object, const char *key,
                     bool *out, struct mp_error *err)
{
    const struct cJSON *value = mp_json_find(object, key);
    return value == NULL ? fail_missing(doc, object, key, err)
                         : mp_json_as_bool(doc, value, out, err);
}

int mp_json_opt_bool(const struct mp_json *doc, const struct cJSON *object, const char *key,
                     bool *out, struct mp_error *err)
{
    const struct cJSON *value = find_given(object, key);
    return value == NULL ? MP_OK : mp_json_as_bool(doc, value, out, err);
}

int mp_json_get_string(const struct mp_json *doc, const struct cJSON *object, const char *key,
                       const char **out, struct mp_error *err)
{
    const struct cJSON *value = mp_json_find(object, key);
    return value == NULL ? fail_missing(doc, object, key, err)
                         : mp_json_as_string(doc, value, out, err);
}

int mp_json_opt_string(const struct mp_json *doc, const struct cJSON *object, const char *key,
                       const char **out, struct mp_error *err)
{
    const struct cJSON *value = find_given(object, key);
    return value == NULL ? MP_OK : mp_json_as_string(doc, value, out, err);
}

static int get_container(const struct mp_json *doc, const struct cJSON *value,
                         enum mp_json_kind kind, const struct cJSON **out, struct mp_error *err)
{
    int rc = mp_json_expect(doc, value, kind, err);
    if (rc == MP_OK) {
        *out = value;
    }
    return rc;
}

int mp_json_get_array(const struct mp_json *doc, const struct cJSON *object, const char *key,
                      const struct cJSON **out, struct mp_error *err)
{
    const struct cJSON *value = mp_json_find(object, key);
    return value == NULL ? fail_missing(doc, object, key, err)
                         : get_container(doc, value, MP_JSON_ARRAY, out, err);
}

int mp_json_opt_array(const struct mp_json *doc, const struct cJSON *object, const char *key,
                      const struct cJSON **out, struct mp_error *err)
{
    const struct cJSON *value = find_given(object, key);
    return value == NULL ? MP_OK : get_container(doc, value, MP_JSON_ARRAY, out, err);
}

int mp_json_get_object(const struct mp_json *doc, const struct cJSON *object, const char *key,
                       const struct cJSON **out, struct mp_error *err)
{
    const struct cJSON *value = mp_json_find(object, key);
    return value == NULL ? fail_missing(doc, object, key, err)
                         : get_container(doc, value, MP_JSON_OBJECT, out, err);
}

int mp_json_opt_object(const struct mp_json *doc, const struct cJSON *object, const char *key,
                       const struct cJSON **out, struct mp_error *err)
{
    const struct cJSON *value = find_given(object, key);
    return value == NULL ? MP_OK : get_container(doc, value, MP_JSON_OBJECT, out, err);
}
