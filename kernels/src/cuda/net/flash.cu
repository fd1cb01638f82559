// Attention by tensor cores: bf16 in, sums in f32, for heads of 32, 64 or 128 numbers. Formula, source and deviation as in
// `attention.cu`, whose pieces it uses; here probabilities and slopes of scores are rounded to bf16 before they are multiplied.
//
// A block of four warps takes SIDE rows of its own side and one head, a warp 16 of them; rows of the other side come through
// shared memory, N at a time. Fragments are those of `mma_bf16`: g = lane / 4 names rows g and g + 8, t = lane % 4 the columns
// 2 t and 2 t + 1 of each eight.

#define SIDE 64  // rows of a block's own side
#define GAP 8    // numbers between rows in shared memory, so that rows lie in other banks

namespace net {

// Both rows of a fragment: rows `row` and `row + 8`, from column `column` on; zeros beyond `end`.
__device__ __forceinline__ u32 two(Side<bf16> side, u32 row, u32 end, u32 column) {
    return row < end ? *(const u32*)(side.at + (u64)row * side.stride + column) : 0u;
}

// The left factor of a warp: 16 rows from `row` on, D columns.
template <int D>
__device__ __forceinline__ void left_factor(Side<bf16> side, u32 row, u32 end, u32 column, u32 out[D / 16][4]) {
    u32 g = lane() / 4, t = lane() % 4;
#pragma unroll
    for (int i = 0; i < D / 16; i++) {
        u32 at = column + 16 * i + 2 * t;
        out[i][0] = two(side, row + g, end, at);
        out[i][1] = two(side, row + g + 8, end, at);
        out[i][2] = two(side, row + g, end, at + 8);
        out[i][3] = two(side, row + g + 8, end, at + 8);
    }
}

// N rows from `first` on into shared memory, pitch D + GAP; zeros beyond `end`. Copies are under way until `arrive`.
template <int D, int N>
__device__ __forceinline__ void bring(Side<bf16> side, u32 column, u32 first, u32 end, bf16* rows) {
    for (u32 i = threadIdx.x; i < N * D / 8; i += blockDim.x) {
        u32 row = i / (D / 8), t = i % (D / 8) * 8;
        bool there = first + row < end;
        copy_async(rows + row * (D + GAP) + t, side.at + (u64)(there ? first + row : 0) * side.stride + column + t, there);
    }
}

__device__ __forceinline__ void arrive() {
    commit_copies();
    wait_copies<0>();
    __syncthreads();
}

// As `load_matrices`, each matrix turned: out[i] of a lane is column lane / 4 of rows 2 (lane % 4) and the next of matrix i.
__device__ __forceinline__ void load_turned(u32 out[4], const bf16* row) {
#if defined(EMULATED)
    auto cells = emulate::exchange(FULL, row, emulate::MATRIX);
    for (u32 i = 0; i < 4; i++) {
        const bf16 *low = emulate::cell(cells, i * 8 + 2 * (lane() % 4)), *high = emulate::cell(cells, i * 8 + 2 * (lane() % 4) + 1);
        out[i] = (u32)low[lane() / 4].bits | (u32)high[lane() / 4].bits << 16;
    }
#else
    u32 at = (u32)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3]) : "r"(at) : "memory");
#endif
}

// c += left (16 x D) times the transpose of eight rows of shared memory, from row `row` on.
template <int D>
__device__ __forceinline__ void multiply_across(float c[4], const u32 left[D / 16][4], const bf16* rows, u32 row) {
    const bf16* from = rows + (row + lane() % 8) * (D + GAP) + lane() / 8 * 8;
#pragma unroll
    for (int i = 0; i < D / 32; i++) {
        u32 b[4];
        load_matrices(b, from + 32 * i);
        mma_bf16(c, left[2 * i], b);
        mma_bf16(c, left[2 * i + 1], b + 2);
    }
}

// c += left (16 x N) times N rows of shared memory.
template <int D, int N>
__device__ __forceinline__ void multiply_along(float c[D / 8][4], const u32 left[N / 16][4], const bf16* rows) {
    const bf16* from = rows + lane() % 16 * (D + GAP) + lane() / 16 * 8;
#pragma unroll
    for (int k = 0; k < N / 16; k++)
#pragma unroll
        for (int n = 0; n < D / 16; n++) {
            u32 b[4];
            load_turned(b, from + 16 * k * (D + GAP) + 16 * n);
            mma_bf16(c[2 * n], left[k], b);
            mma_bf16(c[2 * n + 1], left[k], b + 2);
        }
}

// Products as the left factor of the next: the fragments of 16 columns from those of two times eight.
__device__ __forceinline__ void repack(const float first[4], const float second[4], u32 out[4]) {
    out[0] = pack_bf16(first[0], first[1]);
    out[1] = pack_bf16(first[2], first[3]);
    out[2] = pack_bf16(second[0], second[1]);
    out[3] = pack_bf16(second[2], second[3]);
}

template <int COUNT>
__device__ __forceinline__ void clear(float c[COUNT][4]) {
#pragma unroll
    for (int i = 0; i < COUNT; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) c[i][j] = 0.f;
}

// Of the four lanes that share a row.
__device__ __forceinline__ float quad_sum(float x) {
    x += __shfl_xor_sync(FULL, x, 1);
    return x + __shfl_xor_sync(FULL, x, 2);
}
__device__ __forceinline__ float quad_max(float x) {
    x = fmaxf(x, __shfl_xor_sync(FULL, x, 1));
    return fmaxf(x, __shfl_xor_sync(FULL, x, 2));
}

// Both rows of a fragment, times a factor each.
template <int D>
__device__ __forceinline__ void write_rows(float c[D / 8][4], bf16* to, u32 stride, u32 column, u32 row, u32 end,
                                           const float factor[2]) {
#pragma unroll
    for (int i = 0; i < D / 8; i++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            u32 at = row + lane() / 4 + 8 * half;
            if (at < end)
                *(u32*)(to + (u64)at * stride + column + 8 * i + 2 * (lane() % 4)) =
                    pack_bf16(c[i][2 * half] * factor[half], c[i][2 * half + 1] * factor[half]);
        }
}

template <int D, int N>
__device__ void flash(Side<bf16> q, Side<bf16> k, Side<bf16> v, Sight sight, u32 first, u32 heads, u32 group,
                      float scale, const float* relative, u32 reach, bf16* out, float* lse) {
    DYNAMIC_SHARED(bf16, room);
    bf16 *ks = room, *vs = ks + N * (D + GAP);
    u32 head = blockIdx.y, column = head / group * D, last = first + SIDE < sight.end ? first + SIDE : sight.end;
    u32 row = first + (threadIdx.x >> 5) * 16, g = lane() / 4, t = lane() % 4;
    u32 left[D / 16][4];
    left_factor<D>(q, row, last, head * D, left);
    float acc[D / 8][4], most[2] = {-INFINITE, -INFINITE}, sum[2] = {0.f, 0.f};
    clear<D / 8>(acc);
    u32 end = sight.keys_end(last);
    for (u32 base = sight.keys_begin(first); base < end; base += N) {
        __syncthreads();
        bring<D, N>(k, column, base, end, ks);
        bring<D, N>(v, column, base, end, vs);
        arrive();
        float s[N / 8][4], top[2] = {most[0], most[1]};
        clear<N / 8>(s);
#pragma unroll
        for (int i = 0; i < N / 8; i++) {
            multiply_across<D>(s[i], left, ks, 8 * i);
#pragma unroll
            for (int j = 0; j < 4; j++) {
                u32 query = row + g + 8 * (j / 2), key = base + 8 * i + 2 * t + j % 2;
                s[i][j] = sight.sees(query, key) ? s[i][j] * scale + bias_of(relative, reach, head, query, key) : -INFINITE;
                top[j / 2] = fmaxf(top[j / 2], s[i][j]);
            }
        }
#pragma unroll
        for (int half = 0; half < 2; half++) {
            top[half] = quad_max(top[half]);
            float shrink = top[half] == most[half] ? 1.f : expf(most[half] - top[half]);
            most[half] = top[half];
            sum[half] *= shrink;
#pragma unroll
            for (int i = 0; i < D / 8; i++) acc[i][2 * half] *= shrink, acc[i][2 * half + 1] *= shrink;
        }
#pragma unroll
        for (int i = 0; i < N / 8; i++)
#pragma unroll
            for (int j = 0; j < 4; j++) {
                s[i][j] = s[i][j] == -INFINITE ? 0.f : expf(s[i][j] - top[j / 2]);
                sum[j / 2] += s[i][j];
            }
        u32 p[N / 16][4];
#pragma unroll
        for (int i = 0; i < N / 16; i++) repack(s[2 * i], s[2 * i + 1], p[i]);
        multiply_along<D, N>(acc, p, vs);
    }
    float factor[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
        sum[half] = quad_sum(sum[half]);
        factor[half] = 1.f / sum[half];
        u32 query = row + g + 8 * half;
        if (t == 0 && query < last) lse[(u64)query * heads + head] = most[half] + logf(sum[half]);
    }
    write_rows<D>(acc, out, heads * D, head * D, row, last, factor);
}

// Gradient of SIDE queries of one head.
template <int D, int N>
__device__ void flash_back_queries(Side<bf16> q, Side<bf16> k, Side<bf16> v, Side<bf16> gout, Kept kept, Sight sight,
                                   u32 first, u32 group, float scale, bf16* gq, u32 gq_stride) {
    DYNAMIC_SHARED(bf16, room);
    bf16 *ks = room, *vs = ks + N * (D + GAP);
    u32 head = blockIdx.y, column = head / group * D, last = first + SIDE < sight.end ? first + SIDE : sight.end;
    u32 row = first + (threadIdx.x >> 5) * 16, g = lane() / 4, t = lane() % 4;
    u32 left[D / 16][4], slope[D / 16][4];
    left_factor<D>(q, row, last, head * D, left);
    left_factor<D>(gout, row, last, head * D, slope);
    float acc[D / 8][4], lse[2], delta[2];
    clear<D / 8>(acc);
#pragma unroll
    for (int half = 0; half < 2; half++) {
        u32 query = row + g + 8 * half;
        u64 at = (u64)(query < last ? query : first) * kept.heads + head;
        lse[half] = kept.lse[at], delta[half] = kept.delta[at];
    }
    u32 end = sight.keys_end(last);
    for (u32 base = sight.keys_begin(first); base < end; base += N) {
        __syncthreads();
        bring<D, N>(k, column, base, end, ks);
        bring<D, N>(v, column, base, end, vs);
        arrive();
        u32 ds[N / 16][4];
#pragma unroll
        for (int i = 0; i < N / 16; i++) {
            float s[2][4], dp[2][4];
            clear<2>(s);
            clear<2>(dp);
#pragma unroll
            for (int h = 0; h < 2; h++) {
                multiply_across<D>(s[h], left, ks, 16 * i + 8 * h);
                multiply_across<D>(dp[h], slope, vs, 16 * i + 8 * h);
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    float p;
                    bool seen = sight.sees(row + g + 8 * (j / 2), base + 16 * i + 8 * h + 2 * t + j % 2);
                    pair_back(seen, s[h][j], dp[h][j], lse[j / 2], delta[j / 2], scale, &p, &s[h][j]);
                }
            }
            repack(s[0], s[1], ds[i]);
        }
        multiply_along<D, N>(acc, ds, ks);
    }
    float factor[2] = {1.f, 1.f};
    write_rows<D>(acc, gq, gq_stride, head * D, row, last, factor);
}

// Gradients of SIDE keys and values of one key head: over the heads of its group in order, and their queries in order. The
// scores are turned: keys are the rows.
template <int D, int N>
__device__ void flash_back_keys(Side<bf16> q, Side<bf16> k, Side<bf16> v, Side<bf16> gout, Kept kept, Sight sight,
                                u32 first, u32 group, float scale, bf16* gk, bf16* gv, u32 gkv_stride) {
    DYNAMIC_SHARED(bf16, room);
    bf16 *qs = room, *gs = qs + N * (D + GAP);
    float *lse = (float*)(gs + N * (D + GAP)), *delta = lse + N;
    u32 column = blockIdx.y * D, last = first + SIDE < sight.end ? first + SIDE : sight.end;
    u32 row = first + (threadIdx.x >> 5) * 16, g = lane() / 4, t = lane() % 4;
    u32 keys[D / 16][4], values[D / 16][4];
    left_factor<D>(k, row, last, column, keys);
    left_factor<D>(v, row, last, column, values);
    float of_k[D / 8][4], of_v[D / 8][4];
    clear<D / 8>(of_k);
    clear<D / 8>(of_v);
    u32 end = sight.queries_end(last);
    for (u32 head = blockIdx.y * group; head < (blockIdx.y + 1) * group; head++)
        for (u32 base = sight.queries_begin(first); base < end; base += N) {
            __syncthreads();
            bring<D, N>(q, head * D, base, end, qs);
            bring<D, N>(gout, head * D, base, end, gs);
            for (u32 i = threadIdx.x; i < N; i += blockDim.x) {
                u64 at = (u64)(base + i < end ? base + i : first) * kept.heads + head;
                lse[i] = kept.lse[at], delta[i] = kept.delta[at];
            }
            arrive();
            u32 p[N / 16][4], ds[N / 16][4];
#pragma unroll
            for (int i = 0; i < N / 16; i++) {
                float s[2][4], dp[2][4], share[2][4];
                clear<2>(s);
                clear<2>(dp);
#pragma unroll
                for (int h = 0; h < 2; h++) {
                    multiply_across<D>(s[h], keys, qs, 16 * i + 8 * h);
                    multiply_across<D>(dp[h], values, gs, 16 * i + 8 * h);
#pragma unroll
                    for (int j = 0; j < 4; j++) {
                        u32 at = 16 * i + 8 * h + 2 * t + j % 2;
                        bool seen = sight.sees(base + at, row + g + 8 * (j / 2));
                        pair_back(seen, s[h][j], dp[h][j], lse[at], delta[at], scale, &share[h][j], &s[h][j]);
                    }
                }
                repack(share[0], share[1], p[i]);
                repack(s[0], s[1], ds[i]);
            }
            multiply_along<D, N>(of_v, p, gs);
            multiply_along<D, N>(of_k, ds, qs);
        }
    float factor[2] = {1.f, 1.f};
    write_rows<D>(of_k, gk, gkv_stride, column, row, last, factor);
    write_rows<D>(of_v, gv, gkv_stride, column, row, last, factor);
}

}  // namespace net

// Grids, arguments and results are those of the kernels in `attention.cu` of the same names; `half` must be 1 and `dim` the
// number in the name, so that each takes the registers of its own width.
#define SEEN                                                                                                            \
    const void *q, u32 q_stride, const void *k, const void *v, u32 k_stride, u32 v_stride, u32 half, const u32 *tiles,  \
        u32 heads, u32 group, u32 dim, float scale, u32 window, u32 causal
#define KEPT const void *gout, const float *lse, const float *delta
#define SIDES net::side<bf16>(q, q_stride), net::side<bf16>(k, k_stride), net::side<bf16>(v, v_stride)
#define SIGHT net::sight_of(tiles, window, causal), tiles[3 * blockIdx.x + 2]
#define BACK_SIDES SIDES, net::side<bf16>(gout, heads * dim), net::Kept{lse, delta, heads}

extern "C" __global__ void __launch_bounds__(128) net_flash_32(SEEN, const float* relative, u32 reach, void* out, float* lse) {
    net::flash<32, 64>(SIDES, SIGHT, heads, group, scale, relative, reach, (bf16*)out, lse);
}
extern "C" __global__ void __launch_bounds__(128) net_flash_64(SEEN, const float* relative, u32 reach, void* out, float* lse) {
    net::flash<64, 64>(SIDES, SIGHT, heads, group, scale, relative, reach, (bf16*)out, lse);
}
extern "C" __global__ void __launch_bounds__(128) net_flash_128(SEEN, const float* relative, u32 reach, void* out, float* lse) {
    net::flash<128, 64>(SIDES, SIGHT, heads, group, scale, relative, reach, (bf16*)out, lse);
}

extern "C" __global__ void __launch_bounds__(128) net_flash_back_queries_32(SEEN, KEPT, void* gq, u32 stride) {
    net::flash_back_queries<32, 64>(BACK_SIDES, SIGHT, group, scale, (bf16*)gq, stride);
}
extern "C" __global__ void __launch_bounds__(128) net_flash_back_queries_64(SEEN, KEPT, void* gq, u32 stride) {
    net::flash_back_queries<64, 64>(BACK_SIDES, SIGHT, group, scale, (bf16*)gq, stride);
}
extern "C" __global__ void __launch_bounds__(128) net_flash_back_queries_128(SEEN, KEPT, void* gq, u32 stride) {
    net::flash_back_queries<128, 64>(BACK_SIDES, SIGHT, group, scale, (bf16*)gq, stride);
}

extern "C" __global__ void __launch_bounds__(128) net_flash_back_keys_32(SEEN, KEPT, void* gk, void* gv, u32 stride) {
    net::flash_back_keys<32, 64>(BACK_SIDES, SIGHT, group, scale, (bf16*)gk, (bf16*)gv, stride);
}
extern "C" __global__ void __launch_bounds__(128) net_flash_back_keys_64(SEEN, KEPT, void* gk, void* gv, u32 stride) {
    net::flash_back_keys<64, 64>(BACK_SIDES, SIGHT, group, scale, (bf16*)gk, (bf16*)gv, stride);
}
extern "C" __global__ void __launch_bounds__(128) net_flash_back_keys_128(SEEN, KEPT, void* gk, void* gv, u32 stride) {
    net::flash_back_keys<128, 32>(BACK_SIDES, SIGHT, group, scale, (bf16*)gk, (bf16*)gv, stride);
}
