/* evict: what leaves the cache is in the offloaded tokens, what stays is in order, and nothing else
 * has changed. */
#include "tests/unit/codelets/evict_test.h"

/* Row `at` of the offloaded ones is that of the cache, to half a step of int8. */
static void check_row(const struct evict_case *t, const void *row, float scale, size_t at,
                      const void *cache, size_t from)
{
    size_t d = (size_t)t->head_dim;
    float largest = 0.0f;
    for (size_t c = 0; c < d; c++) {
        largest = fmaxf(largest, fabsf(mp_load(cache, t->cache, from * d + c)));
    }
    for (size_t c = 0; c < d; c++) {
        float expected = mp_load(cache, t->cache, from * d + c);
        float found = mp_load(row, t->dtype, at * d + c);
        if (t->dtype == MP_I8) {
            assert_true(fabsf(found * scale - expected) <= 0.5001f * largest / 127.0f);
        } else {
            assert_true(found == expected);
        }
    }
}

static void check_left(const struct evict_case *t, const struct evict_fixture *before,
                       const struct evict_fixture *after)
{
    const struct offloaded_kv *off = &after->offloaded;
    size_t row = (size_t)t->head_dim * mp_dtype_size(t->dtype);
    for (int h = 0; h < t->num_kv_heads; h++) {
        for (int64_t i = 0; i < off->capacity; i++) {
            size_t at = (size_t)(h * off->capacity + i);
            int64_t left = i - t->offloaded;
            if (left < 0 || left >= t->count) {
                assert_memory_equal((char *)off->k + at * row,
                                    (char *)before->offloaded.k + at * row, row);
                assert_memory_equal((char *)off->v + at * row,
                                    (char *)before->offloaded.v + at * row, row);
                continue;
            }
            struct kv_scale scale = t->dtype == MP_I8 ? off->scales[at] : (struct kv_scale){0};
            size_t from = (size_t)(h * before->cache.capacity + t->first + left);
            check_row(t, off->k, scale.k, at, before->cache.k, from);
            check_row(t, off->v, scale.v, at, before->cache.v, from);
        }
    }
}

static void check_stayed(const struct evict_case *t, const struct evict_fixture *before,
                         const struct evict_fixture *after)
{
    size_t row = (size_t)t->head_dim * mp_dtype_size(t->cache);
    for (int h = 0; h < t->num_kv_heads; h++) {
        for (int64_t i = 0; i < t->used - t->count; i++) {
            size_t at = (size_t)(h * before->cache.capacity + i) * row;
            size_t from = at + (i < t->first ? 0 : (size_t)t->count * row);
            assert_memory_equal((char *)after->cache.k + at, (char *)before->cache.k + from, row);
            assert_memory_equal((char *)after->cache.v + at, (char *)before->cache.v + from, row);
        }
    }
}

static void run_case(const struct evict_case *t)
{
    struct evict_fixture before = evict_make(t);
    struct evict_fixture after = evict_make(t);
    struct evict_args a = evict_args_of(t, &after);
    evict_any(&a);
    check_left(t, &before, &after);
    check_stayed(t, &before, &after);
    evict_release(&before);
    evict_release(&after);
}

static void test_cases(void **state)
{
    (void)state;
    for (size_t i = 0; i < NUM_EVICT_CASES; i++) {
        run_case(&EVICT_CASES[i]);
    }
    run_case(&(struct evict_case){2, 6, 20, 4, 2, 18, MP_F32, MP_F32});
    run_case(&(struct evict_case){2, 6, 20, 4, 2, 18, MP_F32, MP_I8});
}

/* Another rank keeps what leaves. */
static void test_dropped(void **state)
{
    (void)state;
    for (size_t i = 0; i < NUM_EVICT_CASES; i++) {
        const struct evict_case *t = &EVICT_CASES[i];
        struct evict_fixture before = evict_make(t);
        struct evict_fixture after = evict_make(t);
        struct evict_args a = evict_args_of(t, &after);
        a.offloaded = NULL;
        evict_any(&a);
        check_stayed(t, &before, &after);
        evict_release(&before);
        evict_release(&after);
    }
}

static void test_no_room(void **state)
{
    (void)state;
    struct evict_case t = EVICT_CASES[0];
    struct evict_fixture f = evict_make(&t);
    struct evict_args a = evict_args_of(&t, &f);
    f.offloaded.count = f.offloaded.capacity + 1;
    ASSERT_PANICS(evict_any(&a));
    f.offloaded.count = t.count;
    a.used = f.cache.capacity + 1;
    ASSERT_PANICS(evict_any(&a));
    a.used = t.first + t.count - 1;
    ASSERT_PANICS(evict_any(&a));
    evict_release(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cases), cmocka_unit_test(test_dropped),
                                       cmocka_unit_test(test_no_room)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
