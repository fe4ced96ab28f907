#include "core/machine/cpu.h"

#ifdef __x86_64__
#include <cpuid.h>
#endif
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The variant in force; MP_ISA_COUNT: nothing selected yet. */
static _Atomic(enum mp_isa) selected = MP_ISA_COUNT;

const char *mp_isa_name(enum mp_isa isa)
{
    static const char *const names[MP_ISA_COUNT] = {
        [MP_ISA_REF] = "ref",
        [MP_ISA_AVX2] = "avx2",
        [MP_ISA_AVX512] = "avx512",
    };
    return names[isa];
}

#ifdef __x86_64__

/* A feature that not every compiler's run-time test knows. */
static bool has_feature(unsigned leaf, int reg, unsigned bit)
{
    unsigned regs[4];
    return __get_cpuid_count(leaf, 0, &regs[0], &regs[1], &regs[2], &regs[3]) != 0 &&
           (regs[reg] >> bit & 1) != 0;
}

/* The compiler's test asks cpuid, and XCR0 for what the operating system saves. */
enum mp_isa mp_isa_detect(void)
{
    enum { ECX = 2, F16C = 29, LZCNT = 5 };
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                has_feature(1, ECX, F16C) && __builtin_cpu_supports("bmi") &&
                __builtin_cpu_supports("bmi2") && has_feature(0x80000001, ECX, LZCNT);
    bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                  __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni");
    if (!avx2) {
        return MP_ISA_REF;
    }
    return avx512 ? MP_ISA_AVX512 : MP_ISA_AVX2;
}

static bool amx_bf16;

static void detect_amx_bf16(void)
{
    /* arch_prctl(2): asks Linux for the right to use tile data, which it grants per process. */
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    enum { EDX = 3, AMX_BF16 = 22, AMX_TILE = 24 };

    amx_bf16 = has_feature(7, EDX, AMX_TILE) && has_feature(7, EDX, AMX_BF16) &&
               syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

/* Asks once: kernels want to know at each call, and in a virtual machine cpuid takes microseconds.
 */
bool mp_cpu_has_amx_bf16(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, detect_amx_bf16);
    return amx_bf16;
}

#else

enum mp_isa mp_isa_detect(void)
{
    return MP_ISA_REF;
}

bool mp_cpu_has_amx_bf16(void)
{
    return false;
}

#endif

int mp_isa_select(const char *name, struct mp_error *err)
{
    enum mp_isa best = mp_isa_detect();
    if (strcmp(name, "auto") == 0) {
        atomic_store(&selected, best);
        return MP_OK;
    }
    for (enum mp_isa isa = MP_ISA_REF; isa < MP_ISA_COUNT; isa++) {
        if (strcmp(name, mp_isa_name(isa)) == 0) {
            if (isa > best) {
                return mp_fail(err, MP_ERR_USAGE,
                               "isa \"%s\": this CPU cannot run it, its best variant is \"%s\"",
                               name, mp_isa_name(best));
            }
            atomic_store(&selected, isa);
            return MP_OK;
        }
    }
    return mp_fail(err, MP_ERR_USAGE, "isa \"%s\": expected auto, ref, avx2 or avx512", name);
}

enum mp_isa mp_isa_current(void)
{
    enum mp_isa isa = atomic_load(&selected);
    if (isa == MP_ISA_COUNT) {
        isa = mp_isa_detect();
        atomic_store(&selected, isa);
    }
    return isa;
}

enum mp_isa mp_isa_pick(bool has_avx2, bool has_avx512)
{
    enum mp_isa isa = mp_isa_current();
    if (isa == MP_ISA_AVX512 && has_avx512) {
        return MP_ISA_AVX512;
    }
    if (isa >= MP_ISA_AVX2 && has_avx2) {
        return MP_ISA_AVX2;
    }
    return MP_ISA_REF;
}
