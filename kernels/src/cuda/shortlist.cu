// Nearest centroids and neighbours from the scores of scores.cuh.

// labels[i]: the nearest centroid by canonical distance, lowest first among equals; rows that cannot be decided so go to `open`.
extern "C" __global__ void __launch_bounds__(256, 2) assign_shortlist(
    const float* x, const u32* rows, u64 n, const float* c, const u32* columns, u32 k, u32 dim, u32 width, const float* length,
    const float* sq_norm, const float* error, const float* bias, const float* column_sq_norm, double per_square, double per_row, u32 resident,
    u32* labels, u32* open, u32* open_count) {
    DYNAMIC_SHARED(unsigned char, shared);
    u32 lane = threadIdx.x & 31, warp = threadIdx.x / 32;
    u64 first = (u64)blockIdx.x * TILE_ROWS;
    Tiles tiles = {rows, n, columns, k, width, length, error, bias, resident != 0};
    Three best[4];
    for (u32 i = 0; i < 4; i++) best[i].clear();
    scores(tiles, first, shared, [&](u32 i, u32 j, float u) { best[i].offer(u, j); });
    wait_copies<0>();
    __syncthreads();
    Three* lists = reinterpret_cast<Three*>(shared);
    for (u32 i = 0; i < 4; i++) lists[(warp % 4 * 32 + i * 8 + lane / 4) * LISTS + warp / 4 * 4 + lane % 4] = best[i];
    __syncthreads();
    for (u32 local = warp; local < TILE_ROWS; local += THREADS / 32) {
        u64 row = first + local;
        if (row >= n) break;
        Three own;
        own.clear();
        if (lane < LISTS) own = lists[local * LISTS + lane];
        float top = warp_max(own.u[0]);
        u32 leads = __ballot_sync(FULL, own.u[0] == top);
        u32 j = __shfl_sync(FULL, own.j[0], __ffs(leads) - 1);
        float square = sq_norm[row];
        bool decided = square < LARGE && j < k;
        float least = 0.f;
        if (decided) least = reach(top, length[row], error[j], square, column_sq_norm[j], per_square, per_row, true);
        decided = decided && !__any_sync(FULL, own.u[2] >= least);
        if (!decided) {
            if (lane == 0) open[atomicAdd(open_count, 1u)] = (u32)row;
            continue;
        }
        u32 first_in = __ballot_sync(FULL, own.u[0] >= least), second_in = __ballot_sync(FULL, own.u[1] >= least);
        if (__popc(first_in) + __popc(second_in) > 1) {
            float nearest = INFINITE;
            for (u32 which = 0; which < 2; which++)
                for (u32 left = which ? second_in : first_in; left; left &= left - 1) {
                    u32 other = __shfl_sync(FULL, own.j[which], __ffs(left) - 1);
                    float dist = pair(x + row * dim, c + (u64)other * dim, dim, true);
                    if (dist < nearest || (dist == nearest && other < j)) nearest = dist, j = other;
                }
        }
        if (lane == 0) labels[row] = j;
    }
}

// The rows of `open`, compared with every centroid.
extern "C" __global__ void assign_open(const float* x, const float* c, u32 k, u32 dim, const u32* open, const u32* open_count, u32* labels) {
    u64 warps = (u64)gridDim.x * blockDim.x / 32;
    for (u64 at = warp_index(); at < *open_count; at += warps) {
        u64 row = open[at];
        float best = INFINITE;
        u32 label = 0;
        for (u32 j = 0; j < k; j += OTHERS) {
            float found[1][OTHERS];
            block<1>(x + row * dim, 0, 1, c, j, k, dim, true, found);
#pragma unroll
            for (u32 o = 0; o < OTHERS; o++)
                if (j + o < k && found[0][o] < best) best = found[0][o], label = j + o;
        }
        if ((threadIdx.x & 31) == 0) labels[row] = label;
    }
}

#define CANDIDATES 64    // base rows that a query may be compared with before it is compared with all

// Put (v, j) into the sorted lists of one query; equal values: the lower index first. One thread.
__device__ __forceinline__ void insert(float* values, u32* indices, u32 k, float v, u32 j, bool dot) {
    u32 at = k;
    while (at > 0) {
        float held = values[at - 1];
        bool nearer = indices[at - 1] == FULL || (dot ? v > held : v < held) || (v == held && j < indices[at - 1]);
        if (!nearer) break;
        at--;
        if (at + 1 < k) values[at + 1] = values[at], indices[at + 1] = indices[at];
    }
    if (at < k) values[at] = v, indices[at] = j;
}

// Offer base rows `start .. start + m` to the sorted lists of each query, k <= 16. First all scores for the k-th best bound among the two
// best of each of the eight threads that share a row; then all scores again for what reaches it; that is compared by canonical value.
extern "C" __global__ void __launch_bounds__(256, 2) top_k_shortlist(
    const float* q, const u32* rows, u64 n, const float* base, const u32* columns, u32 m, u32 dim, u32 width, const float* length,
    const float* sq_norm, const float* error, const float* bias, const float* column_sq_norm, double per_square, double per_row, u32 resident,
    u32 start, u32 k, u32 dot, i64 skip, float* value, u32* index, u32* candidates, u32* open, u32* open_count) {
    DYNAMIC_SHARED(unsigned char, shared);
    __shared__ float least[TILE_ROWS];
    __shared__ u32 found[TILE_ROWS];
    u32 lane = threadIdx.x & 31, warp = threadIdx.x / 32;
    u64 first = (u64)blockIdx.x * TILE_ROWS;
    i64 own = skip < 0 ? -1 : skip - (i64)start + (i64)first;  // column that local row 0 must not meet
    Tiles tiles = {rows, n, columns, m, width, length, error, bias, resident != 0};
    Three best[4];
    u32 mine = warp % 4 * 32 + lane / 4;
    for (u32 i = 0; i < 4; i++) best[i].clear();
    scores(tiles, first, shared, [&](u32 i, u32 j, float u) {
        if (skip < 0 || (i64)j != own + mine + i * 8) best[i].offer(u, j);
    });
    wait_copies<0>();
    __syncthreads();
    Three* lists = reinterpret_cast<Three*>(shared);
    for (u32 i = 0; i < 4; i++) lists[(mine + i * 8) * LISTS + warp / 4 * 4 + lane % 4] = best[i];
    __syncthreads();
    for (u32 local = warp; local < TILE_ROWS; local += THREADS / 32) {
        u64 row = first + local;
        if (row >= n) break;
        double square = sq_norm[row];
        float low = -INFINITE;
        if (lane < 2 * LISTS) {
            const Three& list = lists[local * LISTS + lane / 2];
            u32 j = list.j[lane % 2];
            if (j < m) low = reach(list.u[lane % 2], length[row], error[j], square, column_sq_norm[j], per_square, per_row, !dot);
        }
        u32 rank = 0;
        for (u32 other = 0; other < 2 * LISTS; other++) {
            float v = __shfl_sync(FULL, low, other);
            rank += v > low || (v == low && other < lane);
        }
        u32 lead = __ballot_sync(FULL, lane < 2 * LISTS && rank == k - 1);
        float bound = __shfl_sync(FULL, low, __ffs(lead) - 1);
        if (lane == 0) {
            u64 last = row * k + k - 1;
            if (index[last] != FULL) {
                double v = value[last], held = dot ? v - 1e-35 : 0.5 * (square - v) - per_row * (square + v) - 1e-35;
                bound = fmaxf(bound, __double2float_rd(held - fabs(held) * 1.2e-7));
            }
            least[local] = square < LARGE ? bound : INFINITE;
            found[local] = square < LARGE ? 0 : CANDIDATES + 1;
        }
    }
    __syncthreads();
    float bounds[4];
    for (u32 i = 0; i < 4; i++) bounds[i] = least[mine + i * 8];
    scores(tiles, first, shared, [&](u32 i, u32 j, float u) {
        u32 local = mine + i * 8;
        if (!(u >= bounds[i]) || j >= m || first + local >= n || (skip >= 0 && (i64)j == own + local)) return;
        u32 at = atomicAdd(&found[local], 1u);
        if (at < CANDIDATES) candidates[(first + local) * CANDIDATES + at] = j;
    });
    wait_copies<0>();
    __syncthreads();
    for (u32 local = warp; local < TILE_ROWS; local += THREADS / 32) {
        u64 row = first + local;
        if (row >= n) break;
        u32 count = found[local];
        if (count > CANDIDATES) {
            if (lane == 0) open[atomicAdd(open_count, 1u)] = (u32)row;
            continue;
        }
        for (u32 at = 0; at < count; at++) {
            u32 j = candidates[row * CANDIDATES + at];
            float v = pair(q + row * dim, base + (u64)j * dim, dim, !dot);
            if (lane == 0) insert(value + row * k, index + row * k, k, v, start + j, dot != 0);
        }
    }
}

// The queries of `open`, compared with every base row.
extern "C" __global__ void top_k_open(const float* q, const float* base, u32 m, u32 dim, u32 start, u32 k, u32 dot, i64 skip, float* value,
                                      u32* index, const u32* open, const u32* open_count) {
    u64 warps = (u64)gridDim.x * blockDim.x / 32;
    for (u64 at = warp_index(); at < *open_count; at += warps) {
        u64 row = open[at];
        for (u32 j = 0; j < m; j += OTHERS) {
            float found[1][OTHERS];
            block<1>(q + row * dim, 0, 1, base, j, m, dim, !dot, found);
            if ((threadIdx.x & 31) == 0)
                for (u32 o = 0; o < OTHERS; o++)
                    if (j + o < m && (skip < 0 || (u64)start + j + o != (u64)skip + row))
                        insert(value + row * k, index + row * k, k, found[0][o], start + j + o, dot != 0);
            __syncwarp();
        }
    }
}
