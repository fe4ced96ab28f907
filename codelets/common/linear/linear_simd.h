/* Decode-size matrix product for the instruction set this is compiled for. W is streamed from
 * memory once: each thread takes OUTPUTS of its rows at a time and multiplies them, from the first
 * cache on, with ROWS rows of x at a time. */
#include "codelets/common/linear/linear.h"
#include "codelets/common/simd.h"

#include "core/base/dtype.h"

/* OUTPUTS * ROWS sums, ROWS vectors of x and one of W fit the registers. */
enum { OUTPUTS = 4, ROWS = VF_LANES == 16 ? 6 : 3 };

/* Writes the sum for output o of row r. */
static inline void finish(const struct linear_args *a, int64_t r, int o, float sum)
{
    float *y = a->y + r * a->y_stride + o;
    if (a->bias != NULL) {
        sum += a->bias[o];
    }
    *y = a->accumulate ? *y + sum : sum;
}

/* Rows [r, r + rows) times outputs [o, o + outputs). Inlined with constant sizes, so that the sums
 * live in registers. */
static inline __attribute__((always_inline)) void tile(const struct linear_args *a, int64_t r,
                                                       int o, int rows, int outputs)
{
    const float *x = a->x + r * a->x_stride;
    const uint16_t *w = a->w + (int64_t)o * a->in;
    int64_t next = (int64_t)outputs * a->in; /* the same place in the next tile of W */
    int whole = a->in - a->in % VF_LANES;
    vf sums[ROWS][OUTPUTS];
    for (int i = 0; i < rows; i++) {
        for (int j = 0; j < outputs; j++) {
            sums[i][j] = vf_zero();
        }
    }
    for (int c = 0; c < whole; c += VF_LANES) {
        vf x_part[ROWS];
        for (int i = 0; i < rows; i++) {
            x_part[i] = vf_load(x + i * a->x_stride + c);
        }
        for (int j = 0; j < outputs; j++) {
            const uint16_t *from = w + (int64_t)j * a->in + c;
            _mm_prefetch((const char *)(from + next), _MM_HINT_T0);
            vf w_part = vf_load_bf16(from);
            for (int i = 0; i < rows; i++) {
                sums[i][j] = vf_fma(x_part[i], w_part, sums[i][j]);
            }
        }
    }
    for (int i = 0; i < rows; i++) {
        for (int j = 0; j < outputs; j++) {
            float sum = vf_reduce_add(sums[i][j]);
            for (int c = whole; c < a->in; c++) {
                sum += x[i * a->x_stride + c] * mp_bf16_to_f32(w[(int64_t)j * a->in + c]);
            }
            finish(a, r + i, o + j, sum);
        }
    }
}

/* `outputs` is a constant wherever this is inlined. */
static inline __attribute__((always_inline)) void tile_rows(const struct linear_args *a, int64_t r,
                                                            int o, int outputs)
{
    switch (a->rows - r) {
    case 1:
        tile(a, r, o, 1, outputs);
        break;
    case 2:
        tile(a, r, o, 2, outputs);
        break;
#if defined(__AVX512F__)
    case 3:
        tile(a, r, o, 3, outputs);
        break;
    case 4:
        tile(a, r, o, 4, outputs);
        break;
    case 5:
        tile(a, r, o, 5, outputs);
        break;
#endif
    default:
        tile(a, r, o, ROWS, outputs);
    }
}

void VF_NAME(linear_gemv)(const struct linear_args *a)
{
#pragma omp parallel for schedule(static)
    for (int o = 0; o < a->out; o += OUTPUTS) {
        for (int64_t r = 0; r < a->rows; r += ROWS) {
            if (o + OUTPUTS <= a->out) {
                tile_rows(a, r, o, OUTPUTS);
            } else {
                for (int i = o; i < a->out; i++) {
                    tile_rows(a, r, i, 1);
                }
            }
        }
    }
}
