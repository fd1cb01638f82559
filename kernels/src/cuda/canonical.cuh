// The coarse operations as CUDA C, compiled at run time. Every sum is the canonical one of exact.rs: term t goes, by one
// fused multiply-add, to lane t mod 64; a warp holds the 64 lanes, two a thread; the tree adds lanes 16 apart in pairs
// and halves the rest. So the GPU returns the bits of the CPU. No intrinsic here may be reordered or contracted.

#define ROWS 4     // rows a warp works on at once
#define OTHERS 4   // centroids, or base rows, it compares them with at once

// Sum of the 64 lanes: `low` holds lane `thread`, `high` lane `32 + thread`. Valid in thread 0, then given to all.
__device__ __forceinline__ float tree(float low, float high) {
    float a = __fadd_rn(low, __shfl_down_sync(FULL, low, 16));
    float b = __fadd_rn(high, __shfl_down_sync(FULL, high, 16));
    float sum = __fadd_rn(a, b);
    for (int half = 8; half > 0; half >>= 1) sum = __fadd_rn(sum, __shfl_down_sync(FULL, sum, half));
    return __shfl_sync(FULL, sum, 0);
}

__device__ __forceinline__ float step(float x, float y, float acc, bool diff) {
    if (diff) {
        float d = __fsub_rn(x, y);
        return __fmaf_rn(d, d, acc);
    }
    return __fmaf_rn(x, y, acc);
}

// One pair of rows, by a whole warp.
__device__ float pair(const float* x, const float* y, u32 dim, bool diff) {
    u32 lane = threadIdx.x & 31;
    float low = 0.f, high = 0.f;
    for (u32 t = lane; t < dim; t += 64) {
        low = step(x[t], y[t], low, diff);
        if (t + 32 < dim) high = step(x[t + 32], y[t + 32], high, diff);
    }
    return tree(low, high);
}

// R rows of x from `row` against OTHERS rows of y from `other`; rows past the end repeat the last one.
template <int R> __device__ void block(const float* x, u64 row, u64 n, const float* y, u32 other, u32 m, u32 dim, bool diff,
                      float out[R][OTHERS]) {
    u32 lane = threadIdx.x & 31;
    const float* xs[R];
    const float* ys[OTHERS];
    float low[R][OTHERS], high[R][OTHERS];
#pragma unroll
    for (int r = 0; r < R; r++) xs[r] = x + (row + r < n ? row + r : n - 1) * (u64)dim;
#pragma unroll
    for (int c = 0; c < OTHERS; c++) ys[c] = y + (u64)(other + c < m ? other + c : m - 1) * dim;
#pragma unroll
    for (int r = 0; r < R; r++)
#pragma unroll
        for (int c = 0; c < OTHERS; c++) low[r][c] = high[r][c] = 0.f;
    for (u32 t = lane; t < dim; t += 64) {
        float a[R], b[OTHERS];
#pragma unroll
        for (int r = 0; r < R; r++) a[r] = xs[r][t];
#pragma unroll
        for (int c = 0; c < OTHERS; c++) b[c] = ys[c][t];
#pragma unroll
        for (int r = 0; r < R; r++)
#pragma unroll
            for (int c = 0; c < OTHERS; c++) low[r][c] = step(a[r], b[c], low[r][c], diff);
        if (t + 32 >= dim) continue;
#pragma unroll
        for (int r = 0; r < R; r++) a[r] = xs[r][t + 32];
#pragma unroll
        for (int c = 0; c < OTHERS; c++) b[c] = ys[c][t + 32];
#pragma unroll
        for (int r = 0; r < R; r++)
#pragma unroll
            for (int c = 0; c < OTHERS; c++) high[r][c] = step(a[r], b[c], high[r][c], diff);
    }
    __syncwarp();
#pragma unroll
    for (int r = 0; r < R; r++)
#pragma unroll
        for (int c = 0; c < OTHERS; c++) out[r][c] = tree(low[r][c], high[r][c]);
}

__device__ __forceinline__ u64 warp_index() { return ((u64)blockIdx.x * blockDim.x + threadIdx.x) >> 5; }
