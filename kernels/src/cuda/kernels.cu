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

// ROWS rows of x from `row` against OTHERS rows of y from `other`; rows past the end repeat the last one.
__device__ void block(const float* x, u64 row, u64 n, const float* y, u32 other, u32 m, u32 dim, bool diff,
                      float out[ROWS][OTHERS]) {
    u32 lane = threadIdx.x & 31;
    const float* xs[ROWS];
    const float* ys[OTHERS];
    float low[ROWS][OTHERS], high[ROWS][OTHERS];
#pragma unroll
    for (int r = 0; r < ROWS; r++) xs[r] = x + (row + r < n ? row + r : n - 1) * (u64)dim;
#pragma unroll
    for (int c = 0; c < OTHERS; c++) ys[c] = y + (u64)(other + c < m ? other + c : m - 1) * dim;
#pragma unroll
    for (int r = 0; r < ROWS; r++)
#pragma unroll
        for (int c = 0; c < OTHERS; c++) low[r][c] = high[r][c] = 0.f;
    for (u32 t = lane; t < dim; t += 64) {
        float a[ROWS], b[OTHERS];
#pragma unroll
        for (int r = 0; r < ROWS; r++) a[r] = xs[r][t];
#pragma unroll
        for (int c = 0; c < OTHERS; c++) b[c] = ys[c][t];
#pragma unroll
        for (int r = 0; r < ROWS; r++)
#pragma unroll
            for (int c = 0; c < OTHERS; c++) low[r][c] = step(a[r], b[c], low[r][c], diff);
        if (t + 32 >= dim) continue;
#pragma unroll
        for (int r = 0; r < ROWS; r++) a[r] = xs[r][t + 32];
#pragma unroll
        for (int c = 0; c < OTHERS; c++) b[c] = ys[c][t + 32];
#pragma unroll
        for (int r = 0; r < ROWS; r++)
#pragma unroll
            for (int c = 0; c < OTHERS; c++) high[r][c] = step(a[r], b[c], high[r][c], diff);
    }
    __syncwarp();
#pragma unroll
    for (int r = 0; r < ROWS; r++)
#pragma unroll
        for (int c = 0; c < OTHERS; c++) out[r][c] = tree(low[r][c], high[r][c]);
}

__device__ __forceinline__ u64 warp_index() { return ((u64)blockIdx.x * blockDim.x + threadIdx.x) >> 5; }

extern "C" __global__ void row_sq_norms(const float* x, u64 n, u32 dim, float* out) {
    u64 row = warp_index();
    if (row >= n) return;
    float norm = pair(x + row * dim, x + row * dim, dim, false);
    if ((threadIdx.x & 31) == 0) out[row] = norm;
}

extern "C" __global__ void assign(const float* x, u64 n, const float* c, u32 k, u32 dim, u32* labels, float* sq_dist) {
    u64 row = warp_index() * ROWS;
    if (row >= n) return;
    float best[ROWS], found[ROWS][OTHERS];
    u32 label[ROWS];
    for (int r = 0; r < ROWS; r++) best[r] = __int_as_float(0x7F800000), label[r] = 0;
    for (u32 j = 0; j < k; j += OTHERS) {
        block(x, row, n, c, j, k, dim, true, found);
#pragma unroll
        for (int r = 0; r < ROWS; r++)
#pragma unroll
            for (int o = 0; o < OTHERS; o++)
                if (j + o < k && found[r][o] < best[r]) best[r] = found[r][o], label[r] = j + o;
    }
    if ((threadIdx.x & 31) != 0) return;
    for (int r = 0; r < ROWS; r++)
        if (row + r < n) labels[row + r] = label[r], sq_dist[row + r] = best[r];
}

extern "C" __global__ void own_sq_dist(const float* x, u64 n, const float* c, u32 dim, const u32* labels, float* out) {
    u64 row = warp_index();
    if (row >= n) return;
    float dist = pair(x + row * dim, c + (u64)labels[row] * dim, dim, true);
    if ((threadIdx.x & 31) == 0) out[row] = dist;
}

// min_sq_dist[i] = min(min_sq_dist[i], dist); dist itself goes to `seen` so that the host can refuse what is not finite.
extern "C" __global__ void min_sq_dist_update(const float* x, u64 n, const float* p, u32 dim, float* least, float* seen) {
    u64 row = warp_index();
    if (row >= n) return;
    float dist = pair(x + row * dim, p, dim, true);
    if ((threadIdx.x & 31) == 0) {
        seen[row] = dist;
        if (dist < least[row]) least[row] = dist;
    }
}

// Offer base rows `start .. start + m` to the sorted lists of each query. Base rows come in ascending order, so a new
// value equal to a held one belongs behind it. `index` entries of free places are 0xFFFFFFFF with the worst value.
extern "C" __global__ void top_k(const float* q, u64 n, const float* base, u32 m, u32 dim, u32 start, u32 k, u32 dot,
                                 long long skip, float* value, u32* index) {
    u64 row = warp_index() * ROWS;
    if (row >= n) return;
    float found[ROWS][OTHERS];
    bool lead = (threadIdx.x & 31) == 0;
    for (u32 j = 0; j < m; j += OTHERS) {
        block(q, row, n, base, j, m, dim, !dot, found);
        if (lead) {
#pragma unroll
            for (int r = 0; r < ROWS; r++) {
                if (row + r >= n) continue;
                float* values = value + (row + r) * k;
                u32* indices = index + (row + r) * k;
#pragma unroll
                for (int o = 0; o < OTHERS; o++) {
                    float v = found[r][o];
                    u32 at = k;
                    if (j + o >= m || (skip >= 0 && (u64)start + j + o == (u64)skip + row + r)) continue;
                    while (at > 0 && (indices[at - 1] == FULL || (dot ? v > values[at - 1] : v < values[at - 1]))) {
                        at--;
                        if (at + 1 < k) values[at + 1] = values[at], indices[at + 1] = indices[at];
                    }
                    if (at < k) values[at] = v, indices[at] = start + j + o;
                }
            }
        }
        __syncwarp();
    }
}

// sums[label, t] += round(x 2^s): integers, so the order of the atomics cannot matter.
extern "C" __global__ void segment_sums(const float* x, u64 n, u32 dim, const u32* labels, double scale, u64* sums) {
    u64 at = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= n * dim) return;
    long long v = __double2ll_rn(__dmul_rn((double)x[at], scale));
    atomicAdd(sums + (u64)labels[at / dim] * dim + at % dim, (u64)v);
}
