#include "codelets/common/scratch.h"
#include "codelets/hashing/hashing.h"

#include <string.h>

/* dots[j] = x . column j of W, for the vector that starts at element `first` of x. */
static void project(const struct hashing_args *a, size_t first, const float *w, double *dots)
{
    size_t columns = (size_t)a->K * (size_t)a->L;
    memset(dots, 0, columns * sizeof *dots);
    for (int c = 0; c < a->head_dim; c++) {
        double x = (double)mp_load(a->x, a->dtype, first + (size_t)c);
        for (size_t j = 0; j < columns; j++) {
            dots[j] += x * (double)w[(size_t)c * columns + j];
        }
    }
}

void hashing_ref(const struct hashing_args *a)
{
    int64_t projection_size = (int64_t)a->head_dim * a->K * a->L;
#pragma omp parallel for collapse(2)
    for (int h = 0; h < a->num_heads; h++) {
        for (int64_t i = 0; i < a->count; i++) {
            mp_scratch_reset();
            double *dots = mp_scratch((size_t)a->K * (size_t)a->L, sizeof *dots);
            project(a, (size_t)(h * a->x_head_stride + i * a->x_vec_stride),
                    a->w + h / a->heads_per_projection * projection_size, dots);
            uint16_t *codes = a->codes + h * a->code_head_stride + i * a->code_vec_stride;
            for (int l = 0; l < a->L; l++) {
                unsigned code = 0;
                for (int k = 0; k < a->K; k++) {
                    code |= (unsigned)(dots[l * a->K + k] > 0.0) << k;
                }
                codes[l * a->code_table_stride] = (uint16_t)code;
            }
        }
    }
}
