/* CPU features and the choice of kernel variants, made once at start. */
#ifndef MP_CORE_CPU_H
#define MP_CORE_CPU_H

#include "core/base/error.h"

#include <stdbool.h>

enum mp_isa {
    MP_ISA_REF,    /* plain C, float32 throughout: the oracle */
    MP_ISA_AVX2,   /* AVX2 + FMA + F16C + BMI2 */
    MP_ISA_AVX512, /* AVX-512 F, BW, DQ, VL, VNNI and BF16 */
    MP_ISA_COUNT,
};

/* "ref", "avx2" or "avx512". */
const char *mp_isa_name(enum mp_isa isa);

/* The best variant this CPU and operating system can run. */
enum mp_isa mp_isa_detect(void);

/* True if the CPU has AMX tiles with bf16 and the kernel grants them to this process. */
bool mp_cpu_has_amx_bf16(void);

/* Fixes the variant for this process: "auto" (the best) or a name. Naming one that the CPU lacks
 * is MP_ERR_USAGE and says what the CPU has. */
int mp_isa_select(const char *name, struct mp_error *err);

/* The variant in force (the best one until mp_isa_select is called). */
enum mp_isa mp_isa_current(void);

/* An x86-64 kernel in a table of variants; elsewhere it is not compiled and the entry is NULL. */
#if defined(__x86_64__)
#define MP_X86(kernel) (kernel)
#else
#define MP_X86(kernel) NULL
#endif

/* Picks from a table of function pointers indexed by enum mp_isa the entry for the variant in
 * force, or the next lower one that is there. variants[MP_ISA_REF] is never NULL. */
#define MP_KERNEL(variants)                                                                        \
    ((variants)[mp_isa_pick((variants)[MP_ISA_AVX2] != NULL, (variants)[MP_ISA_AVX512] != NULL)])
enum mp_isa mp_isa_pick(bool has_avx2, bool has_avx512);

#endif
