// Sinkhorn's half sweep in the log domain: L_i = log2 sum_j 2^(h_j - s C_ij), with s = log2(e) / eps, one exponential an element and no
// matrix of costs; the same for columns with the clouds exchanged. In f32 costs come from inner products of centred points, in f64 from
// differences, as on the CPU (ground.rs). A row's columns may be cut into parts (grid.y), which are put together in order.

#define SQ_EUCLIDEAN 0
#define EUCLIDEAN 1
#define COSINE 2

__device__ __forceinline__ float power(float v) { return exp2f(v); }
__device__ __forceinline__ double power(double v) { return exp2(v); }
__device__ __forceinline__ float root(float v) { return sqrtf(v); }
__device__ __forceinline__ double root(double v) { return sqrt(v); }

// Largest exponent so far, sum of the powers below it, and sum of those times their costs.
template <class T> struct LogSum {
    T top;
    double sum, paid;
    __device__ __forceinline__ void clear() { top = (T)-INFINITE, sum = 0.0, paid = 0.0; }
    __device__ __forceinline__ void raise(T to) {
        if (!(to > top)) return;
        double factor = (double)power(top - to);
        sum *= factor, paid *= factor, top = to;
    }
    __device__ __forceinline__ void add(LogSum other) {
        raise(other.top);
        if (!(other.top > (T)-INFINITE)) return;
        double factor = (double)power(other.top - top);
        sum += other.sum * factor, paid += other.paid * factor;
    }
};

template <class T> __device__ __forceinline__ LogSum<T> shuffled(LogSum<T> v, int by) {
    LogSum<T> out;
    out.top = __shfl_xor_sync(FULL, v.top, by), out.sum = __shfl_xor_sync(FULL, v.sum, by), out.paid = __shfl_xor_sync(FULL, v.paid, by);
    return out;
}

template <class T, bool SQUARES>
__device__ __forceinline__ void log_sums(Sides<T>& sides, const float* x, const T* x_size, u64 n, const float* y, const T* y_size, u64 m, u32 dim, u32 ground,
                                         const T* h, T scale, u64 part, T* top, double* sum, double* paid) {
    u64 first = (u64)blockIdx.x * SIDE, from = blockIdx.y * part, to = min(m, from + part);
    u32 down = threadIdx.x / 16 * 4;
    LogSum<T> all[4];
    T sizes[4], exponent[4][4], cost[4][4];
#pragma unroll
    for (int r = 0; r < 4; r++) {
        all[r].clear();
        sizes[r] = first + down + r < n ? x_size[first + down + r] : (T)0;
    }
    auto visit = [&](int r, int c, u64 column, T value) {
        bool there = column < to;
        T other = there ? y_size[column] : (T)0, paid = value;
        if (ground == COSINE) paid = (T)1 - (sizeof(T) == 8 ? value * sizes[r] * other : value);
        else if (!SQUARES) paid = sizes[r] + other - (T)2 * value;
        paid = paid > (T)0 ? paid : (T)0;
        if (ground == EUCLIDEAN) paid = root(paid);
        cost[r][c] = paid;
        exponent[r][c] = there ? h[column] - scale * paid : (T)-INFINITE;
    };
    auto next = [&]() {
#pragma unroll
        for (int r = 0; r < 4; r++) {
            T high = exponent[r][0];
#pragma unroll
            for (int c = 1; c < 4; c++) high = exponent[r][c] > high ? exponent[r][c] : high;
            all[r].raise(high);
            if (!(high > (T)-INFINITE)) continue;
            T some = (T)0, some_paid = (T)0;
#pragma unroll
            for (int c = 0; c < 4; c++) {
                T p = power(exponent[r][c] - all[r].top);
                some += p, some_paid += p * cost[r][c];
            }
            all[r].sum += (double)some, all[r].paid += (double)some_paid;
        }
    };
    walk<T, SQUARES>(sides, x, n, y, m, dim, first, from, to, visit, next);
#pragma unroll
    for (int r = 0; r < 4; r++) {
        for (int by = 8; by > 0; by >>= 1) {
            LogSum<T> other = shuffled(all[r], by);
            LogSum<T> low = threadIdx.x & by ? other : all[r], high = threadIdx.x & by ? all[r] : other;
            low.add(high);  // both threads add in the same order
            all[r] = low;
        }
        u64 row = first + down + r;
        if (threadIdx.x % 16 == 0 && row < n) {
            top[blockIdx.y * n + row] = all[r].top;
            sum[blockIdx.y * n + row] = all[r].sum;
            paid[blockIdx.y * n + row] = all[r].paid;
        }
    }
}

extern "C" __global__ void __launch_bounds__(256) log_sums_single(
    const float* x, const float* x_size, u64 n, const float* y, const float* y_size, u64 m, u32 dim, u32 ground, const float* h, double scale, u64 part, float* top, double* sum, double* paid) {
    __shared__ Sides<float> sides;
    log_sums<float, false>(sides, x, x_size, n, y, y_size, m, dim, ground, h, (float)scale, part, top, sum, paid);
}

extern "C" __global__ void __launch_bounds__(256) log_sums_double(
    const float* x, const double* x_size, u64 n, const float* y, const double* y_size, u64 m, u32 dim, u32 ground, const double* h, double scale, u64 part, double* top, double* sum, double* paid) {
    __shared__ Sides<double> sides;
    if (ground == COSINE) log_sums<double, false>(sides, x, x_size, n, y, y_size, m, dim, ground, h, scale, part, top, sum, paid);
    else log_sums<double, true>(sides, x, x_size, n, y, y_size, m, dim, ground, h, scale, part, top, sum, paid);
}

// The same from costs in memory, row-major [n, m]: a warp a row.
template <class T>
__device__ __forceinline__ void dense(const T* costs, u64 n, u64 m, const T* h, T scale, T* top, double* sum, double* paid) {
    u64 row = ((u64)blockIdx.x * blockDim.x + threadIdx.x) >> 5;
    if (row >= n) return;
    u32 lane = threadIdx.x & 31;
    LogSum<T> all;
    all.clear();
    for (u64 j = lane; j < m; j += 32) {
        T c = costs[row * m + j], exponent = h[j] - scale * c;
        all.raise(exponent);
        if (!(exponent > (T)-INFINITE)) continue;
        double p = (double)power(exponent - all.top);
        all.sum += p, all.paid += p * (double)c;
    }
    for (int by = 16; by > 0; by >>= 1) {
        LogSum<T> other = shuffled(all, by);
        LogSum<T> low = lane & by ? other : all, high = lane & by ? all : other;
        low.add(high);
        all = low;
    }
    if (lane == 0) top[row] = all.top, sum[row] = all.sum, paid[row] = all.paid;
}

extern "C" __global__ void dense_single(const float* costs, u64 n, u64 m, const float* h, double scale, float* top, double* sum, double* paid) {
    dense<float>(costs, n, m, h, (float)scale, top, sum, paid);
}
extern "C" __global__ void dense_double(const double* costs, u64 n, u64 m, const double* h, double scale, double* top, double* sum, double* paid) {
    dense<double>(costs, n, m, h, scale, top, sum, paid);
}

// to[j, i] = from[i, j]; blocks of 256 threads, tiles of 32 x 32.
template <class T> __device__ __forceinline__ void turn(const T* from, u64 n, u64 m, T* to) {
    __shared__ T tile[32][33];
    u32 across = threadIdx.x % 32;
    for (u32 down = threadIdx.x / 32; down < 32; down += 8) {
        u64 i = (u64)blockIdx.y * 32 + down, j = (u64)blockIdx.x * 32 + across;
        if (i < n && j < m) tile[down][across] = from[i * m + j];
    }
    __syncthreads();
    for (u32 down = threadIdx.x / 32; down < 32; down += 8) {
        u64 j = (u64)blockIdx.x * 32 + down, i = (u64)blockIdx.y * 32 + across;
        if (i < n && j < m) to[j * n + i] = tile[across][down];
    }
}
extern "C" __global__ void turn_single(const float* from, u64 n, u64 m, float* to) { turn(from, n, m, to); }
extern "C" __global__ void turn_double(const double* from, u64 n, u64 m, double* to) { turn(from, n, m, to); }

// gains[part, c] = sum over rows of max(0, x_row . candidate_c - best_row): what taking each candidate adds to how well rows are covered.
extern "C" __global__ void __launch_bounds__(256) coverage_gains(const float* candidates, u64 count, const float* x, u64 n, u32 dim,
                                                                 const float* best, u64 part, double* gains) {
    u64 first = (u64)blockIdx.x * SIDE, from = blockIdx.y * part, to = min(n, from + part);
    u32 down = threadIdx.x / 16 * 4;
    double sums[4] = {0.0, 0.0, 0.0, 0.0};
    __shared__ Sides<float> sides;
    auto visit = [&](int r, int, u64 row, float similarity) {
        if (row < to) sums[r] += (double)fmaxf(similarity - best[row], 0.f);
    };
    walk<float, false>(sides, candidates, count, x, n, dim, first, from, to, visit, []() {});
#pragma unroll
    for (int r = 0; r < 4; r++) {
        double all = row_sum(sums[r]);
        if (threadIdx.x % 16 == 0 && first + down + r < count) gains[blockIdx.y * count + first + down + r] = all;
    }
}
