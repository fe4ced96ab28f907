#include "codelets/common/linear/linear.h"

#include "codelets/common/elementwise.h"
#include "codelets/common/scratch.h"
#include "core/base/memory.h"

#include <dnnl.h>
#include <omp.h>
#include <string.h>

/* What a oneDNN primitive is made for. */
struct product_key {
    int64_t rows;
    int64_t in;
    int64_t out;
    int64_t y_stride;
    int64_t accumulate; /* 0 or 1 */
    int64_t threads;    /* of the calling thread's OpenMP team */
};

struct product {
    struct product_key key;
    dnnl_primitive_t primitive; /* NULL: free entry */
    dnnl_memory_t x;            /* descriptions of the operands; each run sets their addresses */
    dnnl_memory_t w;
    dnnl_memory_t y;
};

/* Products a thread keeps: four shapes a layer for full blocks of rows, and the last ragged ones.
 */
enum { MAX_PRODUCTS = 32 };

static _Thread_local struct {
    dnnl_engine_t engine; /* NULL until the first use */
    dnnl_stream_t stream;
    struct product products[MAX_PRODUCTS];
    int next; /* entry to replace next */
} cache;

static void check(dnnl_status_t status, const char *what)
{
    if (status == dnnl_out_of_memory) {
        mp_give_up("out of memory in oneDNN: for %s", what);
    }
    if (status != dnnl_success) {
        mp_panic("oneDNN refuses %s: status %d", what, (int)status);
    }
}

/* In oneDNN 3 a description of a matrix became a handle, and an operation is no longer described
 * apart from its primitive. */
#if DNNL_VERSION_MAJOR >= 3

#define MATRIX(desc) (desc)

static void matrix_init(dnnl_memory_desc_t *m, const dnnl_dims_t dims, dnnl_data_type_t type,
                        const dnnl_dims_t strides)
{
    check(dnnl_memory_desc_create_with_strides(m, 2, dims, type, strides), "a matrix");
}

static void matrix_free(dnnl_memory_desc_t *m)
{
    dnnl_memory_desc_destroy(*m);
}

static void append_sum(dnnl_post_ops_t ops)
{
    check(dnnl_post_ops_append_sum(ops, 1.0f, 0, dnnl_data_type_undef), "a sum");
}

static void matmul_init(dnnl_primitive_desc_t *pd, const dnnl_memory_desc_t *x,
                        const dnnl_memory_desc_t *w, const dnnl_memory_desc_t *y,
                        dnnl_primitive_attr_t attr)
{
    check(dnnl_matmul_primitive_desc_create(pd, cache.engine, *x, *w, NULL, *y, attr),
          "a bf16 matrix product");
}

#else

#define MATRIX(desc) (&(desc))

static void matrix_init(dnnl_memory_desc_t *m, const dnnl_dims_t dims, dnnl_data_type_t type,
                        const dnnl_dims_t strides)
{
    check(dnnl_memory_desc_init_by_strides(m, 2, dims, type, strides), "a matrix");
}

static void matrix_free(dnnl_memory_desc_t *m)
{
    (void)m; /* a plain struct */
}

static void append_sum(dnnl_post_ops_t ops)
{
    check(dnnl_post_ops_append_sum(ops, 1.0f), "a sum");
}

static void matmul_init(dnnl_primitive_desc_t *pd, const dnnl_memory_desc_t *x,
                        const dnnl_memory_desc_t *w, const dnnl_memory_desc_t *y,
                        dnnl_primitive_attr_t attr)
{
    dnnl_matmul_desc_t matmul;
    check(dnnl_matmul_desc_init(&matmul, x, w, NULL, y), "a matrix product");
    check(dnnl_primitive_desc_create(pd, &matmul, attr, cache.engine, NULL),
          "a bf16 matrix product");
}

#endif

static void product_free(struct product *p)
{
    if (p->primitive != NULL) {
        dnnl_primitive_destroy(p->primitive);
        dnnl_memory_destroy(p->x);
        dnnl_memory_destroy(p->w);
        dnnl_memory_destroy(p->y);
    }
    memset(p, 0, sizeof *p);
}

static void product_create(struct product *p, const struct product_key *key)
{
    dnnl_memory_desc_t x;
    dnnl_memory_desc_t w;
    dnnl_memory_desc_t y;
    matrix_init(&x, (dnnl_dims_t){key->rows, key->in}, dnnl_bf16, (dnnl_dims_t){key->in, 1});
    matrix_init(&w, (dnnl_dims_t){key->in, key->out}, dnnl_bf16, (dnnl_dims_t){1, key->in});
    matrix_init(&y, (dnnl_dims_t){key->rows, key->out}, dnnl_f32, (dnnl_dims_t){key->y_stride, 1});

    dnnl_post_ops_t ops;
    dnnl_primitive_attr_t attr;
    check(dnnl_post_ops_create(&ops), "a list of operations");
    check(dnnl_primitive_attr_create(&attr), "attributes");
    if (key->accumulate) {
        append_sum(ops);
    }
    check(dnnl_primitive_attr_set_post_ops(attr, ops), "attributes");

    dnnl_primitive_desc_t pd;
    matmul_init(&pd, &x, &w, &y, attr);
    check(dnnl_primitive_create(&p->primitive, pd), "a primitive");
    check(dnnl_memory_create(&p->x, MATRIX(x), cache.engine, DNNL_MEMORY_NONE), "x");
    check(dnnl_memory_create(&p->w, MATRIX(w), cache.engine, DNNL_MEMORY_NONE), "W");
    check(dnnl_memory_create(&p->y, MATRIX(y), cache.engine, DNNL_MEMORY_NONE), "y");
    p->key = *key;

    dnnl_primitive_desc_destroy(pd);
    dnnl_primitive_attr_destroy(attr);
    dnnl_post_ops_destroy(ops);
    matrix_free(&x);
    matrix_free(&w);
    matrix_free(&y);
}

static struct product *product_get(const struct product_key *key)
{
    if (cache.engine == NULL) {
        check(dnnl_engine_create(&cache.engine, dnnl_cpu, 0), "a CPU engine");
        check(dnnl_stream_create(&cache.stream, cache.engine, dnnl_stream_default_flags),
              "a stream");
    }
    for (int i = 0; i < MAX_PRODUCTS; i++) {
        if (memcmp(&cache.products[i].key, key, sizeof *key) == 0) {
            return &cache.products[i];
        }
    }
    struct product *p = &cache.products[cache.next];
    cache.next = (cache.next + 1) % MAX_PRODUCTS;
    product_free(p);
    product_create(p, key);
    return p;
}

void linear_release(void)
{
    if (cache.engine == NULL) {
        return;
    }
    for (int i = 0; i < MAX_PRODUCTS; i++) {
        product_free(&cache.products[i]);
    }
    dnnl_stream_destroy(cache.stream);
    dnnl_engine_destroy(cache.engine);
    memset(&cache, 0, sizeof cache);
}

/* y = x W^T for x in bf16, or added to y. */
static void run_product(const struct linear_args *a, uint16_t *x, bool accumulate)
{
    struct product *p = product_get(&(struct product_key){
        .rows = a->rows,
        .in = a->in,
        .out = a->out,
        .y_stride = a->y_stride,
        .accumulate = accumulate,
        .threads = omp_get_max_threads(),
    });
    check(dnnl_memory_set_data_handle(p->x, x), "the address of x");
    check(dnnl_memory_set_data_handle(p->w, (void *)a->w), "the address of W");
    check(dnnl_memory_set_data_handle(p->y, a->y), "the address of y");
    const dnnl_exec_arg_t args[] = {
        {DNNL_ARG_SRC, p->x},
        {DNNL_ARG_WEIGHTS, p->w},
        {DNNL_ARG_DST, p->y},
    };
    check(dnnl_primitive_execute(p->primitive, cache.stream, 3, args), "to run a product");
    check(dnnl_stream_wait(cache.stream), "to wait for a product");
}

void linear_matmul_bf16(const struct linear_args *a)
{
    const struct elementwise *e = elementwise_current();
    bool split = linear_num_parts() == 2;
    size_t size = (size_t)a->rows * (size_t)a->in;
    uint16_t *high = mp_scratch(size, sizeof *high);
    uint16_t *low = split ? mp_scratch(size, sizeof *low) : NULL;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < a->rows; r++) {
        const float *x = a->x + r * a->x_stride;
        if (split) {
            e->split_bf16(high + r * a->in, low + r * a->in, x, a->in);
        } else {
            e->to_bf16(high + r * a->in, x, a->in);
        }
    }
    run_product(a, high, a->accumulate);
    if (split) {
        run_product(a, low, true);
    }
}
