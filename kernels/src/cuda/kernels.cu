// The coarse operations, every pair by its canonical sum.

extern "C" __global__ void row_sq_norms(const float* x, u64 n, u32 dim, float* out) {
    u64 row = warp_index();
    if (row >= n) return;
    float norm = pair(x + row * dim, x + row * dim, dim, false);
    if ((threadIdx.x & 31) == 0) out[row] = norm;
}

// bad = the lowest row whose canonical squared norm is not finite.
extern "C" __global__ void check_finite(const float* x, u64 n, u32 dim, u64 first, u64* bad) {
    u64 row = warp_index();
    if (row >= n) return;
    float norm = pair(x + row * dim, x + row * dim, dim, false);
    if ((threadIdx.x & 31) == 0 && !(fabsf(norm) < INFINITE)) atomicMin(bad, first + row);
}

extern "C" __global__ void assign(const float* x, u64 n, const float* c, u32 k, u32 dim, u32* labels, float* sq_dist) {
    u64 row = warp_index() * ROWS;
    if (row >= n) return;
    float best[ROWS], found[ROWS][OTHERS];
    u32 label[ROWS];
    for (int r = 0; r < ROWS; r++) best[r] = __int_as_float(0x7F800000), label[r] = 0;
    for (u32 j = 0; j < k; j += OTHERS) {
        block<ROWS>(x, row, n, c, j, k, dim, true, found);
#pragma unroll
        for (int r = 0; r < ROWS; r++)
#pragma unroll
            for (int o = 0; o < OTHERS; o++)
                if (j + o < k && found[r][o] < best[r]) best[r] = found[r][o], label[r] = j + o;
    }
    if ((threadIdx.x & 31) != 0) return;
    for (int r = 0; r < ROWS; r++)
        if (row + r < n) {
            labels[row + r] = label[r];
            if (sq_dist) sq_dist[row + r] = best[r];
        }
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
        block<ROWS>(q, row, n, base, j, m, dim, !dot, found);
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

// sums[label, t] += round(x 2^s): integers, so the order of the atomics cannot matter. A thread keeps one column of 32 rows and adds what
// it has whenever the segment changes; rows that stay where they were (`before`, unless null) are not read. FULL is no segment.
extern "C" __global__ void segment_sums(const float* x, u64 n, u32 dim, const u32* before, const u32* after, double scale, u64* sums) {
    u32 t = blockIdx.y * blockDim.x + threadIdx.x;
    u64 first = (u64)blockIdx.x * 32;
    if (t >= dim) return;
    u32 held = FULL;
    u64 sum = 0;
    for (u64 row = first; row < first + 32 && row < n; row++) {
        u32 to = after[row], from = before ? before[row] : FULL;
        if (from == to) continue;
        u64 v = (u64)__double2ll_rn(__dmul_rn((double)x[row * dim + t], scale));
        if (from != FULL) atomicAdd(sums + (u64)from * dim + t, (u64)0 - v);
        if (to != held) {
            if (held != FULL) atomicAdd(sums + (u64)held * dim + t, sum);
            held = to;
            sum = 0;
        }
        sum += v;
    }
    if (held != FULL) atomicAdd(sums + (u64)held * dim + t, sum);
}
