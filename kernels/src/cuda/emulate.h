// Stands in for CUDA on a CPU, so that tests run the very source of the kernels where there is no GPU. Threads of a block are
// fibers on one operating-system thread, switched at barriers and warp collectives alone; blocks run one after another, every
// other one with its threads in reverse order. A wait that cannot end, lanes that disagree, and blocks that are not whole warps
// are errors. Speed is no aim: about a hundred million switches a second.
#pragma once
#define EMULATED 1
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>
#include <tuple>
#include <utility>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#define __global__
#define __device__
#define __host__
#define __constant__ static const
#define __shared__ static thread_local
#define __forceinline__ inline
#define __noinline__
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))

struct uint3 { unsigned x, y, z; };
struct float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct int2 { int x, y; };
struct alignas(16) int4 { int x, y, z, w; };
struct double2 { double x, y; };
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline int2 make_int2(int x, int y) { return {x, y}; }
inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
inline double2 make_double2(double x, double y) { return {x, y}; }

namespace emulate {
const unsigned MAX_THREADS = 1024, STACK = 256 << 10, MAX_SHARED = 232448, CELL = 64;

struct Rendezvous {
    unsigned arrived, mask, generation;
    int kind;
    alignas(16) unsigned char cells[2][32][CELL];
};
struct Fiber {
#if defined(__x86_64__)
    void* stack_pointer;
#else
    ucontext_t context;
#endif
    bool done;
};
struct Machine {
    uint3 thread, block, threads, blocks;
    unsigned count, current, stride, alive, waiting, generation;
    unsigned long idle;
    const char* error;
    void (*body)(void*, void**);
    void* kernel;
    void** arguments;
    Fiber home, fibers[MAX_THREADS];
    char* stacks;
    alignas(128) unsigned char shared[MAX_SHARED];
    Rendezvous meetings[MAX_THREADS / 32][32];
};
static thread_local Machine* me = nullptr;

#if defined(__x86_64__)
extern "C" void emulate_switch(void** from, void* to) __attribute__((visibility("hidden")));
asm(".text\n.hidden emulate_switch\n.globl emulate_switch\n.type emulate_switch,@function\nemulate_switch:\n"
    "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
    "movq %rsp, (%rdi)\nmovq %rsi, %rsp\n"
    "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n.size emulate_switch,.-emulate_switch\n");
inline void jump(Fiber& from, Fiber& to) { emulate_switch(&from.stack_pointer, to.stack_pointer); }
#else
inline void jump(Fiber& from, Fiber& to) { swapcontext(&from.context, &to.context); }
#endif

[[noreturn]] inline void fail(const char* why) {
    me->error = why;
    Fiber& own = me->fibers[me->current];
    for (;;) jump(own, me->home);
}

// Let the next thread that has not ended run.
inline void yield() {
    Machine& m = *me;
    unsigned from = m.current, next = from;
    do next = (next + m.stride) % m.count; while (m.fibers[next].done && next != from);
    if (next == from) return;
    m.current = next;
    m.thread.x = next;
    jump(m.fibers[from], m.fibers[next]);
}

// Give way until `ready`.
template <class F> inline void wait(F ready) {
    while (!ready()) {
        if (++me->idle > 4ul * me->count + 64) fail("threads wait for others that never come (a barrier or collective in a branch?)");
        yield();
    }
    me->idle = 0;
}

inline void open_barrier() {
    me->waiting = 0;
    me->generation++;
    me->idle = 0;
}

inline void barrier() {
    unsigned generation = me->generation;
    if (++me->waiting == me->alive) open_barrier();
    else wait([&] { return me->generation != generation; });
}

enum Kind { SYNC = 1, SHUFFLE, VOTE, MATRIX };

// Give `mine` to the lanes of `mask` and see theirs.
template <class T> inline const T* exchange(unsigned mask, const T& mine, Kind kind) {
    static_assert(sizeof(T) <= CELL, "a cell is too small");
    unsigned lane = me->thread.x & 31;
    if (!(mask >> lane & 1)) fail("a lane calls a collective whose mask leaves it out");
    Rendezvous& r = me->meetings[me->thread.x / 32][__builtin_ctz(mask)];
    if (r.arrived == 0) r.mask = mask, r.kind = kind;
    else if (r.mask != mask || r.kind != kind) fail("lanes of a warp disagree about a collective");
    unsigned generation = r.generation;
    unsigned char(*cells)[CELL] = r.cells[generation & 1];
    memcpy(cells[lane], &mine, sizeof(T));
    r.arrived |= 1u << lane;
    me->idle = 0;
    if (r.arrived == mask) r.arrived = 0, r.generation++;
    else wait([&] { return r.generation != generation; });
    return reinterpret_cast<const T*>(cells);
}
template <class T> inline T cell(const T* cells, unsigned lane) {
    T out;
    memcpy(&out, reinterpret_cast<const unsigned char*>(cells) + (size_t)lane * CELL, sizeof(T));
    return out;
}

inline void start() {
    Machine& m = *me;
    m.body(m.kernel, m.arguments);
    Fiber& own = m.fibers[m.current];
    own.done = true;
    m.idle = 0;
    if (--m.alive == 0) jump(own, m.home);
    if (m.waiting == m.alive) open_barrier();
    yield();
    fail("an ended thread was resumed");
}

inline void prepare(unsigned t) {
    Fiber& f = me->fibers[t];
    f.done = false;
    char* top = me->stacks + (size_t)(t + 1) * STACK;
#if defined(__x86_64__)
    void** sp = reinterpret_cast<void**>(top) - 1; // so that a called function finds the alignment it expects
    *--sp = reinterpret_cast<void*>(&start);
    f.stack_pointer = sp - 6;
#else
    getcontext(&f.context);
    f.context.uc_stack.ss_sp = top - STACK;
    f.context.uc_stack.ss_size = STACK;
    makecontext(&f.context, (void (*)())start, 0);
#endif
}

inline bool machine() {
    if (me) return true;
    void* room = mmap(nullptr, sizeof(Machine), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void* stacks = mmap(nullptr, (size_t)MAX_THREADS * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED || stacks == MAP_FAILED) return false;
    me = static_cast<Machine*>(room);
    me->stacks = static_cast<char*>(stacks);
    return true;
}

inline const char* run(void (*body)(void*, void**), void* kernel, const unsigned* grid, unsigned block, unsigned shared, void** arguments) {
    if (!machine()) return "no memory for the stacks";
    if (block == 0 || block > MAX_THREADS || block % 32) return "a block must have 32 to 1024 threads, whole warps";
    if (shared > MAX_SHARED) return "more shared memory than a block can have";
    Machine& m = *me;
    m.body = body, m.kernel = kernel, m.arguments = arguments, m.error = nullptr;
    m.threads = {block, 1, 1}, m.blocks = {grid[0], grid[1], grid[2]}, m.count = block;
    for (unsigned z = 0; z < grid[2]; z++)
        for (unsigned y = 0; y < grid[1]; y++)
            for (unsigned x = 0; x < grid[0]; x++) {
                m.block = {x, y, z};
                memset(m.shared, 0xFF, shared);
                for (unsigned w = 0; w < block / 32; w++)
                    for (Rendezvous& r : m.meetings[w]) r.arrived = 0;
                for (unsigned t = 0; t < block; t++) prepare(t);
                m.alive = block, m.waiting = 0, m.idle = 0;
                m.stride = (x + y + z) % 2 ? block - 1 : 1;
                m.current = m.stride == 1 ? 0 : block - 1;
                m.thread = {m.current, 0, 0};
                jump(m.home, m.fibers[m.current]);
                if (m.error) return m.error;
            }
    return nullptr;
}

template <class... A, size_t... I> void call(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
    kernel(*static_cast<std::remove_reference_t<A>*>(arguments[I])...);
}
template <class... A> struct Signature {
    static void body(void* kernel, void** arguments) {
        call(reinterpret_cast<void (*)(A...)>(kernel), arguments, std::index_sequence_for<A...>{});
    }
    static const char* launch(void* kernel, const unsigned* grid, unsigned block, unsigned shared, void** arguments, const unsigned* sizes, unsigned count) {
        const unsigned wanted[] = {(unsigned)sizeof(A)..., 0};
        if (count != sizeof...(A)) return "the number of arguments differs from the kernel's";
        for (unsigned i = 0; i < count; i++)
            if (sizes[i] != wanted[i]) return "the size of an argument differs from the kernel's";
        return run(&body, kernel, grid, block, shared, arguments);
    }
};
struct Entry {
    const char* name;
    void* kernel;
    const char* (*launch)(void*, const unsigned*, unsigned, unsigned, void**, const unsigned*, unsigned);
};
template <class... A> Entry entry(const char* name, void (*kernel)(A...)) {
    return {name, reinterpret_cast<void*>(kernel), &Signature<A...>::launch};
}
}  // namespace emulate

// Ends a program: the kernels it has.
#define EMULATE_KERNELS(...) \
    static const emulate::Entry emulated_kernels[] = {__VA_ARGS__}; \
    extern "C" const char* emulate_launch(const char* name, const unsigned* grid, unsigned block, unsigned shared, void** arguments, const unsigned* sizes, unsigned count) { \
        for (const emulate::Entry& e : emulated_kernels) \
            if (!strcmp(e.name, name)) return e.launch(e.kernel, grid, block, shared, arguments, sizes, count); \
        return "no such kernel"; \
    }

#define threadIdx (emulate::me->thread)
#define blockIdx (emulate::me->block)
#define blockDim (emulate::me->threads)
#define gridDim (emulate::me->blocks)

inline void __syncthreads() { emulate::barrier(); }
inline void __syncwarp(unsigned mask = 0xFFFFFFFFu) { emulate::exchange(mask, 0, emulate::SYNC); }
inline void __threadfence() {}
inline void __threadfence_block() {}

template <class T> inline T emulate_shuffle(unsigned mask, T v, unsigned from) {
    auto cells = emulate::exchange(mask, v, emulate::SHUFFLE);
    if (!(mask >> from & 1)) emulate::fail("a shuffle reads a lane that its mask leaves out");
    return emulate::cell(cells, from);
}
template <class T> inline T __shfl_sync(unsigned mask, T v, int lane, int width = 32) {
    unsigned own = threadIdx.x & 31;
    return emulate_shuffle(mask, v, (own & ~(width - 1)) | (lane & (width - 1)));
}
template <class T> inline T __shfl_down_sync(unsigned mask, T v, unsigned by, int width = 32) {
    unsigned own = threadIdx.x & 31, to = own + by;
    return emulate_shuffle(mask, v, (own & (width - 1)) + by < (unsigned)width ? to : own);
}
template <class T> inline T __shfl_up_sync(unsigned mask, T v, unsigned by, int width = 32) {
    unsigned own = threadIdx.x & 31;
    return emulate_shuffle(mask, v, (own & (width - 1)) >= by ? own - by : own);
}
template <class T> inline T __shfl_xor_sync(unsigned mask, T v, int with, int width = 32) {
    unsigned own = threadIdx.x & 31, to = own ^ with;
    return emulate_shuffle(mask, v, (to & ~(width - 1)) <= (own & ~(width - 1)) + width - 1 ? to : own);
}
inline unsigned __ballot_sync(unsigned mask, int yes) {
    auto cells = emulate::exchange(mask, yes != 0, emulate::VOTE);
    unsigned votes = 0;
    for (unsigned lane = 0; lane < 32; lane++)
        if (mask >> lane & 1 && emulate::cell(cells, lane)) votes |= 1u << lane;
    return votes;
}
inline int __any_sync(unsigned mask, int yes) { return __ballot_sync(mask, yes) != 0; }
inline int __all_sync(unsigned mask, int yes) { return __ballot_sync(mask, yes) == mask; }
inline unsigned __activemask() { return 0xFFFFFFFFu; }

template <class T> inline T __ldg(const T* p) { return *p; }
template <class T> inline T __ldcs(const T* p) { return *p; }
template <class T, class V> inline void __stcs(T* p, V v) { *p = v; }
template <class T> inline T emulate_swap(T* p, T v) { T old = *p; *p = v; return old; }
template <class T, class V> inline T atomicAdd(T* p, V v) { return emulate_swap(p, (T)(*p + (T)v)); }
template <class T, class V> inline T atomicMax(T* p, V v) { return emulate_swap(p, *p < (T)v ? (T)v : *p); }
template <class T, class V> inline T atomicMin(T* p, V v) { return emulate_swap(p, (T)v < *p ? (T)v : *p); }
template <class T, class V> inline T atomicOr(T* p, V v) { return emulate_swap(p, (T)(*p | (T)v)); }
template <class T, class V> inline T atomicExch(T* p, V v) { return emulate_swap(p, (T)v); }
template <class T, class C, class V> inline T atomicCAS(T* p, C is, V v) { T old = *p; if (old == (T)is) *p = (T)v; return old; }

template <class To, class From> inline To emulate_bits(From v) { To out; static_assert(sizeof(To) == sizeof(From), ""); memcpy(&out, &v, sizeof out); return out; }
inline int __float_as_int(float v) { return emulate_bits<int>(v); }
inline unsigned __float_as_uint(float v) { return emulate_bits<unsigned>(v); }
inline float __int_as_float(int v) { return emulate_bits<float>(v); }
inline float __uint_as_float(unsigned v) { return emulate_bits<float>(v); }
inline long long __double_as_longlong(double v) { return emulate_bits<long long>(v); }
inline double __longlong_as_double(long long v) { return emulate_bits<double>(v); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __fsqrt_rn(float a) { return sqrtf(a); }
inline float __frcp_rn(float a) { return 1.f / a; }
inline float __fdividef(float a, float b) { return a / b; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
inline double __dsqrt_rn(double a) { return sqrt(a); }
inline float __expf(float v) { return expf(v); }
inline float __logf(float v) { return logf(v); }
inline float __log2f(float v) { return log2f(v); }
inline float __sinf(float v) { return sinf(v); }
inline float __cosf(float v) { return cosf(v); }
inline float __powf(float a, float b) { return powf(a, b); }
inline float rsqrtf(float v) { return 1.f / sqrtf(v); }
inline float __frsqrt_rn(float v) { return 1.f / sqrtf(v); }
inline double rsqrt(double v) { return 1.0 / sqrt(v); }
inline int __float2int_rn(float v) { return (int)rintf(v); }
inline int __float2int_rd(float v) { return (int)floorf(v); }
inline int __float2int_rz(float v) { return (int)v; }
inline float __int2float_rn(int v) { return (float)v; }
inline float __uint2float_rn(unsigned v) { return (float)v; }
inline long long __double2ll_rn(double v) { return (long long)rint(v); }
inline float __double2float_rn(double v) { return (float)v; }
inline float emulate_down(double v) { float f = (float)v; return (double)f > v ? nextafterf(f, -INFINITY) : f; }
inline float emulate_up(double v) { float f = (float)v; return (double)f < v ? nextafterf(f, INFINITY) : f; }
inline float __double2float_rd(double v) { return emulate_down(v); }
inline float __double2float_ru(double v) { return emulate_up(v); }
inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((unsigned long long)a * b >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) { return (unsigned long long)((unsigned __int128)a * b >> 64); }
inline int __popc(unsigned v) { return __builtin_popcount(v); }
inline int __popcll(unsigned long long v) { return __builtin_popcountll(v); }
inline int __ffs(int v) { return __builtin_ffs(v); }
inline int __clz(int v) { return v ? __builtin_clz((unsigned)v) : 32; }
inline int __clzll(long long v) { return v ? __builtin_clzll((unsigned long long)v) : 64; }
inline unsigned __brev(unsigned v) { unsigned r = 0; for (int i = 0; i < 32; i++) r |= (v >> i & 1) << (31 - i); return r; }
template <class T> inline T min(T a, T b) { return b < a ? b : a; }
template <class T> inline T max(T a, T b) { return a < b ? b : a; }
inline unsigned min(int a, unsigned b) { return min((unsigned)a, b); }
inline unsigned min(unsigned a, int b) { return min(a, (unsigned)b); }
inline unsigned max(unsigned a, int b) { return max(a, (unsigned)b); }
