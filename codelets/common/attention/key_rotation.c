#include "codelets/common/attention/key_rotation.h"

#include "core/base/memory.h"
#include "core/base/rng.h"

#include <math.h>
#include <stdlib.h>

size_t key_rotation_size(int head_dim)
{
    size_t d = (size_t)head_dim;
    return key_rotation_is_hadamard(head_dim) ? d : d * d;
}

static double dot(const double *a, const double *b, int n)
{
    double sum = 0.0;
    for (int c = 0; c < n; c++) {
        sum += a[c] * b[c];
    }
    return sum;
}

/* Makes row j of a matrix orthogonal to those before it, and of length 1. Twice, since the first
 * time leaves rounding errors of the size of what is taken away. */
static void orthogonalize(double *rows, int j, int d)
{
    double *row = rows + (size_t)j * (size_t)d;
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < j; i++) {
            const double *other = rows + (size_t)i * (size_t)d;
            double along = dot(row, other, d);
            for (int c = 0; c < d; c++) {
                row[c] -= along * other[c];
            }
        }
        double scale = 1.0 / sqrt(dot(row, row, d));
        for (int c = 0; c < d; c++) {
            row[c] *= scale;
        }
    }
}

void key_rotation_draw(int head_dim, uint64_t seed, float *data)
{
    struct mp_rng rng;
    mp_rng_init(&rng, seed, 0);
    if (key_rotation_is_hadamard(head_dim)) {
        for (int c = 0; c < head_dim; c++) {
            data[c] = mp_rng_next(&rng) >> 63 ? -1.0f : 1.0f;
        }
        return;
    }
    size_t size = key_rotation_size(head_dim);
    double *rows = mp_xcalloc(size, sizeof *rows);
    for (size_t i = 0; i < size; i++) {
        rows[i] = mp_rng_normal(&rng);
    }
    for (int j = 0; j < head_dim; j++) {
        orthogonalize(rows, j, head_dim);
    }
    for (size_t i = 0; i < size; i++) {
        data[i] = (float)rows[i];
    }
    free(rows);
}

static void hadamard(const float *signs, const float *x, int d, float *y)
{
    for (int c = 0; c < d; c++) {
        y[c] = signs[c] * x[c];
    }
    for (int stride = 1; stride < d; stride *= 2) {
        for (int first = 0; first < d; first += 2 * stride) {
            for (int c = first; c < first + stride; c++) {
                float a = y[c];
                float b = y[c + stride];
                y[c] = a + b;
                y[c + stride] = a - b;
            }
        }
    }
    float scale = 1.0f / sqrtf((float)d);
    for (int c = 0; c < d; c++) {
        y[c] *= scale;
    }
}

void key_rotate(const struct key_rotation *r, const float *x, float *y)
{
    int d = r->head_dim;
    if (key_rotation_is_hadamard(d)) {
        hadamard(r->data, x, d, y);
        return;
    }
    for (int j = 0; j < d; j++) {
        float sum = 0.0f;
        for (int c = 0; c < d; c++) {
            sum = fmaf(r->data[j * d + c], x[c], sum);
        }
        y[j] = sum;
    }
}
