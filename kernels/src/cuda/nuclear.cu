// Nuclear norms of many matrices at once: Gram matrices of rows less their mean, in f32 by blocks of the depth that are summed in f64, then
// eigenvalues in f64, a block of threads a matrix: Householder's reduction to three diagonals, and bisection by Sturm's count, a thread an
// eigenvalue (Golub and Van Loan 8.3, 8.4). All matrices of a launch have the same shape, [n, depth], one after another.

#define BLOCK 256     // depth summed in f32

// sums += the outer products of 4 numbers of `left` from `down` on with 4 of `right` from `across` on, over a slab of the depth.
__device__ __forceinline__ void add_outer(const double left[DEPTH][SIDE + 4], const double right[DEPTH][SIDE + 4], u32 down, u32 across, double sums[4][4]) {
#pragma unroll 8
    for (u32 t = 0; t < DEPTH; t++) {
        Four<double> a = *reinterpret_cast<const Four<double>*>(&left[t][down]), b = *reinterpret_cast<const Four<double>*>(&right[t][across]);
#pragma unroll
        for (int r = 0; r < 4; r++)
#pragma unroll
            for (int c = 0; c < 4; c++) sums[r][c] = fma(a.v[r], b.v[c], sums[r][c]);
    }
}

// mean[matrix, t] of every `apart`-th row.
extern "C" __global__ void gram_mean(const float* x, u32 n, u32 depth, u32 apart, float* mean) {
    u32 t = blockIdx.x * blockDim.x + threadIdx.x, rows = 0;
    if (t >= depth) return;
    double sum = 0.0;
    for (u32 row = 0; row < n; row += apart, rows++) sum += (double)x[((u64)blockIdx.y * n + row) * depth + t];
    mean[(u64)blockIdx.y * depth + t] = (float)(sum / rows);
}

// along[matrix, i]: inner product of row i, less the mean, with the mean; at i = n the mean's with itself. A warp each.
extern "C" __global__ void gram_along(const float* x, u32 n, u32 depth, const float* mean, double* along) {
    u32 i = (blockIdx.x * blockDim.x + threadIdx.x) / 32, lane = threadIdx.x & 31;
    if (i > n) return;
    const float* m = mean + (u64)blockIdx.y * depth;
    const float* row = x + ((u64)blockIdx.y * n + min(i, n - 1)) * depth;
    double sum = 0.0;
    for (u32 t = lane; t < depth; t += 32) sum = fma((double)(i < n ? row[t] - m[t] : m[t]), (double)m[t], sum);
    for (int half = 16; half > 0; half >>= 1) sum += __shfl_xor_sync(FULL, sum, half);
    if (lane == 0) along[(u64)blockIdx.y * (n + 1) + i] = sum;
}

// parts[matrix, split, i, j] for the tile of 64 x 64 named by blockIdx.x among those on and below the diagonal.
extern "C" __global__ void __launch_bounds__(256) gram_centred(const float* x, u32 n, u32 depth, const float* mean, u32 split_depth, double* parts) {
    __shared__ __align__(16) float left[DEPTH][SIDE + 4];
    __shared__ __align__(16) float right[DEPTH][SIDE + 4];
    u32 tile = blockIdx.x, i0 = 0;
    while (tile > i0) tile -= ++i0;
    u32 j0 = tile, down = threadIdx.x / 16 * 4, across = threadIdx.x % 16 * 4, from = blockIdx.y * split_depth, to = min(depth, from + split_depth);
    const float* rows = x + (u64)blockIdx.z * n * depth;
    const float* m = mean + (u64)blockIdx.z * depth;
    double sums[4][4];
    float acc[4][4];
#pragma unroll
    for (int r = 0; r < 4; r++)
#pragma unroll
        for (int c = 0; c < 4; c++) sums[r][c] = 0.0, acc[r][c] = 0.f;
    for (u32 at = from; at < to; at += DEPTH) {
        __syncthreads();
        for (u32 e = threadIdx.x; e < SIDE * DEPTH; e += 256) {
            u32 row = e / DEPTH, t = e % DEPTH, i = i0 * SIDE + row, j = j0 * SIDE + row;
            float centre = at + t < to ? m[at + t] : 0.f;
            left[t][row] = i < n && at + t < to ? rows[(u64)i * depth + at + t] - centre : 0.f;
            right[t][row] = j < n && at + t < to ? rows[(u64)j * depth + at + t] - centre : 0.f;
        }
        __syncthreads();
#pragma unroll 8
        for (u32 t = 0; t < DEPTH; t++) {
            Four<float> a = *reinterpret_cast<const Four<float>*>(&left[t][down]), b = *reinterpret_cast<const Four<float>*>(&right[t][across]);
#pragma unroll
            for (int r = 0; r < 4; r++)
#pragma unroll
                for (int c = 0; c < 4; c++) acc[r][c] += a.v[r] * b.v[c];
        }
        if ((at - from) % BLOCK == BLOCK - DEPTH || at + DEPTH >= to) {
#pragma unroll
            for (int r = 0; r < 4; r++)
#pragma unroll
                for (int c = 0; c < 4; c++) sums[r][c] += (double)acc[r][c], acc[r][c] = 0.f;
        }
    }
    double* out = parts + ((u64)blockIdx.z * gridDim.y + blockIdx.y) * n * n;
#pragma unroll
    for (int r = 0; r < 4; r++)
#pragma unroll
        for (int c = 0; c < 4; c++) {
            u32 i = i0 * SIDE + down + r, j = j0 * SIDE + across + c;
            if (i < n && j <= i) out[(u64)i * n + j] = sums[r][c];
        }
}

// gram[matrix, i, j], both halves: the parts in order, and the mean put back; own[matrix, i] the diagonal without it.
extern "C" __global__ void gram_whole(const double* parts, u32 n, u32 splits, const double* along, double* gram, double* own) {
    u64 e = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    u32 i = (u32)(e / n), j = (u32)(e % n);
    if (i >= n || j > i) return;
    const double* a = along + (u64)blockIdx.y * (n + 1);
    double sum = 0.0;
    for (u32 s = 0; s < splits; s++) sum += parts[((u64)blockIdx.y * splits + s) * n * n + e];
    if (i == j) own[(u64)blockIdx.y * n + i] = sum;
    sum += a[i] + a[j] + a[n];
    gram[((u64)blockIdx.y * n + i) * n + j] = sum;
    gram[((u64)blockIdx.y * n + j) * n + i] = sum;
}

// Sum over the block, given to all threads; `room` holds 33 numbers.
__device__ double block_sum(double v, double* room) {
    for (int half = 16; half > 0; half >>= 1) v += __shfl_xor_sync(FULL, v, half);
    __syncthreads();
    if ((threadIdx.x & 31) == 0) room[threadIdx.x / 32] = v;
    __syncthreads();
    if (threadIdx.x == 0) {
        double all = 0.0;
        for (u32 w = 0; w < blockDim.x / 32; w++) all += room[w];
        room[32] = all;
    }
    __syncthreads();
    return room[32];
}

// gram -> its three diagonals; gram is used up. Shared memory: 2 n + 33 doubles.
extern "C" __global__ void tridiagonal(double* gram, u32 n, double* diagonal, double* off) {
    DYNAMIC_SHARED(double, shared);
    double *v = shared, *w = shared + n, *room = shared + 2 * n;
    double* a = gram + (u64)blockIdx.x * n * n;
    double *d = diagonal + (u64)blockIdx.x * n, *e = off + (u64)blockIdx.x * n;
    u32 lane = threadIdx.x & 31, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    for (u32 k = 0; k + 1 < n; k++) {
        u32 left = n - k - 1;
        const double* line = a + (u64)k * n + k + 1;
        double square = 0.0;
        for (u32 i = threadIdx.x; i < left; i += blockDim.x) v[i] = line[i], square += i ? line[i] * line[i] : 0.0;
        square = block_sum(square, room);
        double head = v[0], length = sqrt(head * head + square);
        if (threadIdx.x == 0) d[k] = line[-1];
        if (square == 0.0) {
            if (threadIdx.x == 0) e[k] = head;
            __syncthreads();
            continue;
        }
        double to = head > 0.0 ? -length : length, first = head - to, beta = 2.0 / (first * first + square);
        __syncthreads();
        if (threadIdx.x == 0) e[k] = to, v[0] = first;
        __syncthreads();
        for (u32 i = warp; i < left; i += warps) {
            const double* row = a + (u64)(k + 1 + i) * n + k + 1;
            double dot = 0.0;
            for (u32 j = lane; j < left; j += 32) dot = fma(row[j], v[j], dot);
            for (int half = 16; half > 0; half >>= 1) dot += __shfl_xor_sync(FULL, dot, half);
            if (lane == 0) w[i] = beta * dot;
        }
        __syncthreads();
        double along = 0.0;
        for (u32 i = threadIdx.x; i < left; i += blockDim.x) along = fma(w[i], v[i], along);
        along = 0.5 * beta * block_sum(along, room);
        for (u32 i = threadIdx.x; i < left; i += blockDim.x) w[i] -= along * v[i];
        __syncthreads();
        for (u32 i = warp; i < left; i += warps) {
            double* row = a + (u64)(k + 1 + i) * n + k + 1;
            double vi = v[i], wi = w[i];
            for (u32 j = lane; j < left; j += 32) row[j] -= vi * w[j] + wi * v[j];
        }
        __syncthreads();
    }
    if (threadIdx.x == 0) d[n - 1] = a[(u64)n * n - 1], e[n - 1] = 0.0;
}

// values[matrix, i]: the i-th smallest eigenvalue, within 2^-58 of the width of all. Shared memory: 2 n doubles.
extern "C" __global__ void tridiagonal_values(const double* diagonal, const double* off, u32 n, double* values) {
    DYNAMIC_SHARED(double, shared);
    double *d = shared, *squares = shared + n;
    const double *own = diagonal + (u64)blockIdx.x * n, *e = off + (u64)blockIdx.x * n;
    for (u32 i = threadIdx.x; i < n; i += blockDim.x) d[i] = own[i], squares[i] = e[i] * e[i];
    __syncthreads();
    double least = d[0], most = d[0], pivot = 1e-300;
    for (u32 i = 0; i < n; i++) {
        double reach = (i ? fabs(e[i - 1]) : 0.0) + fabs(e[i]);
        least = fmin(least, d[i] - reach), most = fmax(most, d[i] + reach);
        pivot = fmax(pivot, squares[i] * 1e-292);
    }
    for (u32 at = threadIdx.x; at < n; at += blockDim.x) {
        double low = least, high = most;
        for (int turn = 0; turn < 60; turn++) {
            double middle = 0.5 * (low + high), q = d[0] - middle;
            u32 below = q < 0.0;
            for (u32 i = 1; i < n; i++) {
                if (fabs(q) < pivot) q = -pivot;
                q = d[i] - middle - squares[i - 1] / q;
                below += q < 0.0;
            }
            if (below > at) high = middle;
            else low = middle;
        }
        values[(u64)blockIdx.x * n + at] = 0.5 * (low + high);
    }
}

// images[row, column] = x[row] . root[column of it], x [rows, depth] and root [depth, columns]: what a head makes of hidden states.
extern "C" __global__ void __launch_bounds__(256) head_images(const float* x, const double* root, u64 rows, u32 depth, u32 columns, double* images) {
    __shared__ __align__(32) double left[DEPTH][SIDE + 4];
    __shared__ __align__(32) double right[DEPTH][SIDE + 4];
    u64 first = (u64)blockIdx.x * SIDE;
    u32 begin = blockIdx.y * SIDE, down = threadIdx.x / 16 * 4, across = threadIdx.x % 16 * 4;
    double sums[4][4] = {};
    for (u32 at = 0; at < depth; at += DEPTH) {
        __syncthreads();
        load_turned(left, x, first, rows, depth, at);
        for (u32 e = threadIdx.x; e < SIDE * DEPTH; e += 256) {
            u32 t = e / SIDE, column = e % SIDE;
            right[t][column] = at + t < depth && begin + column < columns ? root[(u64)(at + t) * columns + begin + column] : 0.0;
        }
        __syncthreads();
        add_outer(left, right, down, across, sums);
    }
#pragma unroll
    for (int r = 0; r < 4; r++)
#pragma unroll
        for (int c = 0; c < 4; c++)
            if (first + down + r < rows && begin + across + c < columns) images[(first + down + r) * columns + begin + across + c] = sums[r][c];
}

// gram[matrix, i, j], both halves, of matrices of n rows of `depth` numbers: number t of row i of a matrix at i * along + t * step.
extern "C" __global__ void __launch_bounds__(256) gram_wide(const double* y, u32 n, u32 depth, u64 along, u64 step, double* gram) {
    __shared__ __align__(32) double left[DEPTH][SIDE + 4];
    __shared__ __align__(32) double right[DEPTH][SIDE + 4];
    u32 tile = blockIdx.x, i0 = 0;
    while (tile > i0) tile -= ++i0;
    u32 j0 = tile, down = threadIdx.x / 16 * 4, across = threadIdx.x % 16 * 4;
    const double* rows = y + (u64)blockIdx.y * n * depth;
    double sums[4][4] = {};
    for (u32 at = 0; at < depth; at += DEPTH) {
        __syncthreads();
        for (u32 e = threadIdx.x; e < SIDE * DEPTH; e += 256) {
            // Neighbouring threads read neighbouring numbers, whichever way the matrix lies.
            u32 row = step == 1 ? e / DEPTH : e % SIDE, t = step == 1 ? e % DEPTH : e / SIDE, i = i0 * SIDE + row, j = j0 * SIDE + row;
            left[t][row] = i < n && at + t < depth ? rows[i * along + (at + t) * step] : 0.0;
            right[t][row] = j < n && at + t < depth ? rows[j * along + (at + t) * step] : 0.0;
        }
        __syncthreads();
        add_outer(left, right, down, across, sums);
    }
    double* out = gram + (u64)blockIdx.y * n * n;
#pragma unroll
    for (int r = 0; r < 4; r++)
#pragma unroll
        for (int c = 0; c < 4; c++) {
            u32 i = i0 * SIDE + down + r, j = j0 * SIDE + across + c;
            if (i < n && j <= i) out[(u64)i * n + j] = sums[r][c], out[(u64)j * n + i] = sums[r][c];
        }
}
