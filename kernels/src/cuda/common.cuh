// What every program of ours begins with, on the device and in the emulation: short names, bf16 without NVIDIA's header (which is not
// on every machine), shared memory whose size the launch gives, tensor cores, and copies that do not pass through registers.
#define FULL 0xFFFFFFFFu
#define INFINITE __int_as_float(0x7F800000)

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

struct bf16 { u16 bits; };

__device__ __forceinline__ float to_float(bf16 v) { return __uint_as_float((u32)v.bits << 16); }
__device__ __forceinline__ float low_half(u32 two) { return __uint_as_float(two << 16); }
__device__ __forceinline__ float high_half(u32 two) { return __uint_as_float(two & 0xFFFF0000u); }
// Nearest, ties to even; NaN gives 0x7FFF.
__device__ __forceinline__ bf16 to_bf16(float v) {
    u32 u = __float_as_uint(v);
    bf16 out;
    out.bits = (u & 0x7FFFFFFFu) > 0x7F800000u ? (u16)0x7FFFu : (u16)((u + 0x7FFFu + (u >> 16 & 1u)) >> 16);
    return out;
}
__device__ __forceinline__ float round_bf16(float v) { return to_float(to_bf16(v)); }
// Two of them in a word, `low` in the low half.
__device__ __forceinline__ u32 pack_bf16(float low, float high) {
#if !defined(EMULATED) && __CUDA_ARCH__ >= 800
    u32 out;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(high), "f"(low));
    return out;
#else
    return (u32)to_bf16(low).bits | (u32)to_bf16(high).bits << 16;
#endif
}

// `DYNAMIC_SHARED(float, tile);` declares `float* tile`, the bytes of shared memory that the launch asked for, aligned to 128 bytes.
#ifdef EMULATED
#define DYNAMIC_SHARED(type, name) type* name = reinterpret_cast<type*>(emulate::me->shared)
#else
extern __shared__ __align__(128) unsigned char dynamic_shared_bytes[];
#define DYNAMIC_SHARED(type, name) type* name = reinterpret_cast<type*>(dynamic_shared_bytes)
#endif

// c += a b by a whole warp: a is 16 x 16 by rows, b is 16 x 8 by columns, bf16; c is 16 x 8 in f32. With g = lane / 4, t = lane % 4:
// a[0] holds row g, columns 2t, 2t+1; a[1] row g + 8; a[2], a[3] the same rows, columns 2t+8, 2t+9; b[0] holds column g, rows 2t, 2t+1;
// b[1] rows 2t+8, 2t+9; c[0], c[1] row g, columns 2t, 2t+1; c[2], c[3] row g + 8. Before compute 8.0 by shuffles, slowly.
__device__ __forceinline__ void mma_bf16(float c[4], const u32 a[4], const u32 b[2]) {
#if defined(EMULATED)
    struct Fragment { u32 a[4], b[2]; } mine = {{a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
    auto cells = emulate::exchange(FULL, mine, emulate::MATRIX);
    u32 lane = threadIdx.x & 31, g = lane / 4, t = lane % 4;
    for (u32 half = 0; half < 2; half++)
        for (u32 p = 0; p < 4; p++) {
            Fragment left = emulate::cell(cells, g * 4 + p);
            for (u32 column = 0; column < 2; column++) {
                Fragment right = emulate::cell(cells, (2 * t + column) * 4 + p);
                for (u32 row = 0; row < 2; row++) {
                    u32 x = left.a[2 * half + row], y = right.b[half];
                    c[2 * row + column] += low_half(x) * low_half(y) + high_half(x) * high_half(y);
                }
            }
        }
#elif __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    u32 lane = threadIdx.x & 31, g = lane / 4, t = lane % 4;
#pragma unroll
    for (u32 half = 0; half < 2; half++)
        for (u32 p = 0; p < 4; p++) {
            u32 x0 = __shfl_sync(FULL, a[2 * half], g * 4 + p), x1 = __shfl_sync(FULL, a[2 * half + 1], g * 4 + p);
            u32 y0 = __shfl_sync(FULL, b[half], 2 * t * 4 + p), y1 = __shfl_sync(FULL, b[half], (2 * t + 1) * 4 + p);
            c[0] += low_half(x0) * low_half(y0) + high_half(x0) * high_half(y0);
            c[1] += low_half(x0) * low_half(y1) + high_half(x0) * high_half(y1);
            c[2] += low_half(x1) * low_half(y0) + high_half(x1) * high_half(y0);
            c[3] += low_half(x1) * low_half(y1) + high_half(x1) * high_half(y1);
        }
#endif
}

// Four 8 x 8 matrices of 16-bit numbers from shared memory: lane l names (16-byte aligned) row l % 8 of matrix l / 8; out[i] of a lane is
// the word lane % 4 of row lane / 4 of matrix i.
__device__ __forceinline__ void load_matrices(u32 out[4], const void* row) {
#if defined(EMULATED)
    auto cells = emulate::exchange(FULL, row, emulate::MATRIX);
    u32 lane = threadIdx.x & 31;
    for (u32 i = 0; i < 4; i++) memcpy(&out[i], static_cast<const u32*>(emulate::cell(cells, i * 8 + lane / 4)) + lane % 4, 4);
#else
    u32 at = (u32)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3]) : "r"(at) : "memory");
#endif
}

// Copy 16 bytes from global to shared memory (both aligned), or write zeros, on its own time: see `commit_copies` and `wait_copies`.
__device__ __forceinline__ void copy_async(void* shared, const void* global, bool there) {
#if !defined(EMULATED) && __CUDA_ARCH__ >= 800
    u32 at = (u32)__cvta_generic_to_shared(shared), bytes = there ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(global), "r"(bytes) : "memory");
#else
    *static_cast<uint4*>(shared) = there ? *static_cast<const uint4*>(global) : make_uint4(0, 0, 0, 0);
#endif
}
// End a group of copies.
__device__ __forceinline__ void commit_copies() {
#if !defined(EMULATED) && __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
// Wait until at most PENDING groups of this thread are under way. A barrier must follow before others' copies are read.
template <int PENDING> __device__ __forceinline__ void wait_copies() {
#if !defined(EMULATED) && __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
#endif
}

__device__ __forceinline__ float warp_sum(float v) {
#pragma unroll
    for (int half = 16; half > 0; half >>= 1) v += __shfl_xor_sync(FULL, v, half);
    return v;
}
__device__ __forceinline__ float warp_max(float v) {
#pragma unroll
    for (int half = 16; half > 0; half >>= 1) v = fmaxf(v, __shfl_xor_sync(FULL, v, half));
    return v;
}
