/* The instructions of compute capability 9.0a that prefill_attention is built from, one function
 * each: warpgroup matrix products (wgmma), bulk tensor copies (TMA), transaction barriers
 * (mbarrier), named barriers, register reallocation. Addresses are 32-bit shared memory addresses.
 *
 * Operands in shared memory are bf16 panels of 64 columns: row r holds its 64 numbers in the 128
 * bytes from r * 128 on, with the 16-byte chunk c moved to chunk c ^ (r % 8). This is the 128-byte
 * swizzle of both the copy engine and wgmma: it repeats every 8 rows = 1024 bytes, so panels start
 * at multiples of 1024. A panel is read in either of two ways:
 *
 *   K-major: a row is a row of A or a column of B, its columns run along k. Groups of 8 rows are
 *     1024 bytes apart (the stride offset); the leading offset is not used. k-step i of 16 starts
 *     32 * i bytes into the first row: the swizzle is a function of the address bits, not of where
 *     an operand starts.
 *   MN-major (B alone, "transposed"): a row is a k, its columns run along n. Groups of 8 k are
 *     1024 bytes apart (the stride offset), groups of 64 n one panel apart (the leading offset).
 *     k-step i of 16 starts at row 16 * i, 2048 * i bytes on. */
#ifndef MP_CODELETS_PREFILL_ATTENTION_WGMMA_CUH
#define MP_CODELETS_PREFILL_ATTENTION_WGMMA_CUH

#include "codelets/common/cuda/mma_cuda.cuh"

#include <cuda.h>
#include <cuda_runtime.h>
#include <stdint.h>

enum {
    PANEL_COLUMNS = 64,
    SWIZZLE_ROWS = 8,     /* rows until the swizzle repeats */
    SWIZZLE_BYTES = 1024, /* the same in bytes */
    K_STEP = 16,          /* depth of one wgmma on bf16 */
    WARPGROUP = 128,      /* threads */
};

/* ---- wgmma ---- */

/* A matrix descriptor. Bits 0-13: start address, 16-29: leading offset, 32-45: stride offset, all
 * in units of 16 bytes; 49-51: 0, the swizzle starts at a multiple of 1024; 62-63: 1, swizzle of
 * 128 bytes. */
static __device__ __forceinline__ uint64_t descriptor(uint32_t start, uint32_t leading)
{
    return (uint64_t)(start >> 4) | (uint64_t)(leading >> 4) << 16 |
           (uint64_t)(SWIZZLE_BYTES >> 4) << 32 | (uint64_t)1 << 62;
}

/* Panels read K-major. */
static __device__ __forceinline__ uint64_t descriptor_k_major(uint32_t start)
{
    return descriptor(start, 16); /* "assumed 1" */
}

/* Panels read MN-major, each panel_bytes long. */
static __device__ __forceinline__ uint64_t descriptor_n_major(uint32_t start, uint32_t panel_bytes)
{
    return descriptor(start, panel_bytes);
}

/* Keeps the compiler from moving accesses to registers across this point: it does not know that
 * wgmma goes on reading and writing them after the statement. */
template <int N> static __device__ __forceinline__ void pin(float (&x)[N])
{
#pragma unroll
    for (int i = 0; i < N; i++) {
        asm volatile("" : "+f"(x[i])::"memory");
    }
}

template <int N> static __device__ __forceinline__ void pin(uint32_t (&x)[N][4])
{
#pragma unroll
    for (int i = 0; i < N * 4; i++) {
        asm volatile("" : "+r"(x[i / 4][i % 4])::"memory");
    }
}

/* Orders this warpgroup's accesses to registers before the wgmma that follow. */
static __device__ __forceinline__ void wgmma_fence()
{
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

/* Ends a group of wgmma. */
static __device__ __forceinline__ void wgmma_commit()
{
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

/* Waits until at most `pending` groups, the latest ones, are in progress. */
template <int pending> static __device__ __forceinline__ void wgmma_wait()
{
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
}

/* Accumulators d of 64 rows x n columns. Thread t of the warpgroup holds rows 16 * (t / 32) +
 * t % 32 / 4 and 8 more; d[4 * j + 2 * i + e] is column 8 * j + 2 * (t % 4) + e of row i of the
 * two. A in registers for one k-step is the same, of 16 columns, two numbers to a register. */
#define ACC_8(d, i)                                                                                \
    "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]),    \
        "+f"(d[i + 6]), "+f"(d[i + 7])
#define ACC_32(d, i) ACC_8(d, i), ACC_8(d, i + 8), ACC_8(d, i + 16), ACC_8(d, i + 24)
#define OPERANDS_32                                                                                \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                       \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define OPERANDS_64                                                                                \
    OPERANDS_32 ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, "    \
                "%47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, " \
                "%63"

/* d = A B^T (+ d), A of 64 rows and B of 128 rows both K-major in shared memory. */
static __device__ __forceinline__ void wgmma_k_major(float (&d)[64], uint64_t a, uint64_t b,
                                                     bool accumulate)
{
    asm volatile("{\n"
                 ".reg .pred accumulate;\n"
                 "setp.ne.b32 accumulate, %66, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" OPERANDS_64 "}, "
                 "%64, %65, accumulate, 1, 1, 0, 0;\n"
                 "}\n"
                 : ACC_32(d, 0), ACC_32(d, 32)
                 : "l"(a), "l"(b), "r"((int)accumulate));
}

/* d += A B, A in registers, B of 128 (64) columns MN-major in shared memory. */
static __device__ __forceinline__ void wgmma_n_major(float (&d)[64], const uint32_t (&a)[4],
                                                     uint64_t b)
{
    asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" OPERANDS_64 "}, "
                 "{%64, %65, %66, %67}, %68, 1, 1, 1, 1;\n"
                 : ACC_32(d, 0), ACC_32(d, 32)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

static __device__ __forceinline__ void wgmma_n_major(float (&d)[32], const uint32_t (&a)[4],
                                                     uint64_t b)
{
    asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" OPERANDS_32 "}, "
                 "{%32, %33, %34, %35}, %36, 1, 1, 1, 1;\n"
                 : ACC_32(d, 0)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

#undef ACC_8
#undef ACC_32
#undef OPERANDS_32
#undef OPERANDS_64

/* Shared memory written by this thread becomes visible to wgmma and the copy engine, once a barrier
 * follows. */
static __device__ __forceinline__ void fence_proxy_async()
{
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/* ---- barriers ---- */

static __device__ __forceinline__ void mbarrier_init(uint32_t barrier, int arrivals)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals)
                 : "memory");
}

/* Shows the barriers initialised by this thread to the copy engine. */
static __device__ __forceinline__ void mbarrier_fence_init()
{
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

static __device__ __forceinline__ void mbarrier_arrive(uint32_t barrier)
{
    asm volatile("mbarrier.arrive.release.cta.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

/* Arrives, and makes the phase last until `bytes` more have been copied. */
static __device__ __forceinline__ void mbarrier_arrive_expect(uint32_t barrier, uint32_t bytes)
{
    asm volatile(
        "mbarrier.arrive.expect_tx.release.cta.shared::cta.b64 _, [%0], %1;" ::"r"(barrier),
        "r"(bytes)
        : "memory");
}

/* Waits for the end of the barrier's phase of this parity. The phase before the first counts as
 * ended, and has parity 1. */
static __device__ __forceinline__ void mbarrier_wait(uint32_t barrier, uint32_t parity)
{
    uint32_t ended = 0;
    while (ended == 0) {
        asm volatile("{\n"
                     ".reg .pred ended;\n"
                     "mbarrier.try_wait.parity.acquire.cta.shared::cta.b64 ended, [%1], %2;\n"
                     "selp.u32 %0, 1, 0, ended;\n"
                     "}\n"
                     : "=r"(ended)
                     : "r"(barrier), "r"(parity)
                     : "memory");
    }
}

/* Named barriers among `threads` threads of the block, whole warps; barrier 0 is __syncthreads'. */
static __device__ __forceinline__ void named_barrier_sync(int barrier, int threads)
{
    asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

static __device__ __forceinline__ void named_barrier_arrive(int barrier, int threads)
{
    asm volatile("bar.arrive %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

/* ---- bulk copies, registers ---- */

/* Copies the map's box at (column, row, plane) to shared memory and counts its bytes on the
 * barrier, those outside the tensor, which become zeros, included. */
static __device__ __forceinline__ void copy_box(uint32_t to, const CUtensorMap *map, int column,
                                                int row, int plane, uint32_t barrier)
{
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%2, %3, %4}], [%5];" ::"r"(to),
                 "l"(map), "r"(column), "r"(row), "r"(plane), "r"(barrier)
                 : "memory");
}

/* Gives registers of this warpgroup's threads back, or takes them, to have this many each. */
template <int registers> static __device__ __forceinline__ void shrink_registers()
{
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(registers));
}

template <int registers> static __device__ __forceinline__ void grow_registers()
{
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(registers));
}

#endif
