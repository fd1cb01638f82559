// Attention over sequences laid end to end, never holding the n x n scores: forward with the logarithm of each row's sum,
// and the way back, which computes the scores again. Plain arithmetic in f32 for every width of head up to 144; `flash.cu`
// does the same with tensor cores.
//
// Formula: P = softmax(Q K^T / sqrt(d) + r) over the keys a query sees, O = P V; with D = rowsum(dO O): dV = P^T dO,
// dS = P (dO V^T - D) / sqrt(d), dQ = dS K, dK = dS^T Q. Source: Dao et al. 2022, FlashAttention (sections 3.1, B.4).
// Deviation: dQ and dK, dV come from two launches, each summing in its own fixed order, where the paper adds with atomics.
// Cost: 4 n T d operations a head forward, 14 n T d back.
//
// A block of four warps takes ROWS rows of a sequence (a tile: start and end of the sequence, first row) and one head, and
// goes over OTHERS rows of the other side at a time, one a lane.

#define ROWS 8
#define OTHERS 32
#define MINE 2     // rows of a warp
#define WIDEST 5   // numbers of a head that a lane holds

namespace net {

// Rows of one side: where they lie and how far apart.
template <typename T>
struct Side {
    const T* at;
    u32 stride;
};

// What decides who sees whom.
struct Sight {
    u32 start, end, window, causal;
    __device__ __forceinline__ bool sees(u32 query, u32 key) const {
        return query < end && key >= start && key < end && (!causal || key <= query) &&
               (window == 0 || key + window > query);
    }
    // One behind the last key that the queries before `last` see.
    __device__ __forceinline__ u32 keys_end(u32 last) const { return causal ? last : end; }
    __device__ __forceinline__ u32 keys_begin(u32 first) const {
        return window != 0 && first + 1 > start + window ? first + 1 - window : start;
    }
    __device__ __forceinline__ u32 queries_begin(u32 first) const { return causal ? first : start; }
    __device__ __forceinline__ u32 queries_end(u32 last) const {
        return window != 0 && last - 1 + window < end ? last - 1 + window : end;
    }
};

// Rows `first ..` below `end` into shared memory, zeros behind.
template <typename T>
__device__ __forceinline__ void fetch(Side<T> side, u32 column, u32 first, u32 end, u32 rows, u32 dim, u32 pitch,
                                      float* to) {
    for (u32 i = threadIdx.x; i < rows * dim; i += blockDim.x) {
        u32 row = i / dim, t = i % dim;
        to[row * pitch + t] = first + row < end ? wide(side.at[(u64)(first + row) * side.stride + column + t]) : 0.f;
    }
}

__device__ __forceinline__ float dot(const float* a, const float* b, u32 dim) {
    float sum = 0.f;
    for (u32 t = 0; t < dim; t++) sum += a[t] * b[t];
    return sum;
}

// acc[i] += sum over the lanes' rows j of p[j] rows[j][lane + 32 i]
__device__ __forceinline__ void blend(const float* p, const float* rows, u32 dim, u32 pitch, float acc[WIDEST]) {
    for (u32 j = 0; j < OTHERS; j++)
#pragma unroll
        for (u32 i = 0; i < WIDEST; i++)
            if (lane() + 32 * i < dim) acc[i] += p[j] * rows[j * pitch + lane() + 32 * i];
}

__device__ __forceinline__ float bias_of(const float* relative, u32 reach, u32 head, u32 query, u32 key) {
    if (reach == 0) return 0.f;
    int far = (int)key - (int)query, most = (int)reach;
    far = far < -most ? -most : far > most ? most : far;
    return relative[(u64)head * (2 * reach + 1) + (u32)(far + most)];
}

// `relative` holds a number for every head and distance from -reach to reach; farther ones count as reach.
template <typename T>
__device__ void attend(Side<T> q, Side<T> k, Side<T> v, Sight sight, u32 first, u32 heads, u32 group, u32 dim,
                       float scale, const float* relative, u32 reach, T* out, float* lse) {
    DYNAMIC_SHARED(float, room);
    u32 warp = threadIdx.x >> 5, head = blockIdx.y, column = head / group * dim, pitch = dim + 1;
    float *ks = room, *vs = ks + OTHERS * pitch, *qs = vs + OTHERS * pitch, *ps = qs + ROWS * dim;
    u32 last = first + ROWS < sight.end ? first + ROWS : sight.end;
    float most[MINE], sum[MINE], acc[MINE][WIDEST];
#pragma unroll
    for (u32 r = 0; r < MINE; r++) {
        most[r] = -INFINITE, sum[r] = 0.f;
#pragma unroll
        for (u32 i = 0; i < WIDEST; i++) acc[r][i] = 0.f;
    }
    fetch(q, head * dim, first, last, ROWS, dim, dim, qs);
    u32 end = sight.keys_end(last);
    for (u32 base = sight.keys_begin(first); base < end; base += OTHERS) {
        __syncthreads();
        fetch(k, column, base, end, OTHERS, dim, pitch, ks);
        fetch(v, column, base, end, OTHERS, dim, pitch, vs);
        __syncthreads();
#pragma unroll
        for (u32 r = 0; r < MINE; r++) {
            u32 query = first + warp * MINE + r, key = base + lane();
            float score = -INFINITE;
            if (sight.sees(query, key))
                score = dot(qs + (warp * MINE + r) * dim, ks + lane() * pitch, dim) * scale +
                        bias_of(relative, reach, head, query, key);
            float top = fmaxf(most[r], warp_max(score));
            float p = score == -INFINITE ? 0.f : expf(score - top), shrink = top == most[r] ? 1.f : expf(most[r] - top);
            sum[r] = sum[r] * shrink + warp_sum(p);
            most[r] = top;
            float* mine = ps + (warp * MINE + r) * OTHERS;
            mine[lane()] = p;
            __syncwarp();
#pragma unroll
            for (u32 i = 0; i < WIDEST; i++) acc[r][i] *= shrink;
            blend(mine, vs, dim, pitch, acc[r]);
        }
    }
#pragma unroll
    for (u32 r = 0; r < MINE; r++) {
        u32 query = first + warp * MINE + r;
        if (query >= last) continue;
        T* to = out + (u64)query * (heads * dim) + head * dim;
#pragma unroll
        for (u32 i = 0; i < WIDEST; i++)
            if (lane() + 32 * i < dim) put(to + lane() + 32 * i, acc[r][i] / sum[r]);
        if (lane() == 0) lse[(u64)query * heads + head] = most[r] + logf(sum[r]);
    }
}

// What a query leaves for the way back: the logarithm of its sum, and the inner product of output and gradient.
struct Kept {
    const float *lse, *delta;
    u32 heads;
};

// One pair: probability and slope of its score.
__device__ __forceinline__ void pair_back(bool seen, float score, float slope, float lse, float delta, float scale,
                                          float* p, float* ds) {
    *p = seen ? expf(score * scale - lse) : 0.f;
    *ds = *p * (slope - delta) * scale;
}

// Gradient of ROWS queries of one head.
template <typename T>
__device__ void attend_back_queries(Side<T> q, Side<T> k, Side<T> v, Side<T> gout, Kept kept, Sight sight, u32 first,
                                    u32 group, u32 dim, float scale, T* gq, u32 gq_stride) {
    DYNAMIC_SHARED(float, room);
    u32 warp = threadIdx.x >> 5, head = blockIdx.y, column = head / group * dim, pitch = dim + 1;
    float *ks = room, *vs = ks + OTHERS * pitch, *qs = vs + OTHERS * pitch, *gs = qs + ROWS * dim, *ss = gs + ROWS * dim;
    u32 last = first + ROWS < sight.end ? first + ROWS : sight.end;
    float acc[MINE][WIDEST];
#pragma unroll
    for (u32 r = 0; r < MINE; r++)
#pragma unroll
        for (u32 i = 0; i < WIDEST; i++) acc[r][i] = 0.f;
    fetch(q, head * dim, first, last, ROWS, dim, dim, qs);
    fetch(gout, head * dim, first, last, ROWS, dim, dim, gs);
    u32 end = sight.keys_end(last);
    for (u32 base = sight.keys_begin(first); base < end; base += OTHERS) {
        __syncthreads();
        fetch(k, column, base, end, OTHERS, dim, pitch, ks);
        fetch(v, column, base, end, OTHERS, dim, pitch, vs);
        __syncthreads();
#pragma unroll
        for (u32 r = 0; r < MINE; r++) {
            u32 row = warp * MINE + r, query = first + row, at = query < last ? query : first;
            float p, ds;
            pair_back(sight.sees(query, base + lane()), dot(qs + row * dim, ks + lane() * pitch, dim),
                      dot(gs + row * dim, vs + lane() * pitch, dim), kept.lse[(u64)at * kept.heads + head],
                      kept.delta[(u64)at * kept.heads + head], scale, &p, &ds);
            ss[row * OTHERS + lane()] = ds;
            __syncwarp();
            blend(ss + row * OTHERS, ks, dim, pitch, acc[r]);
        }
    }
#pragma unroll
    for (u32 r = 0; r < MINE; r++) {
        u32 query = first + warp * MINE + r;
        T* to = gq + (u64)query * gq_stride + head * dim;
#pragma unroll
        for (u32 i = 0; i < WIDEST; i++)
            if (query < last && lane() + 32 * i < dim) put(to + lane() + 32 * i, acc[r][i]);
    }
}

// Gradients of ROWS keys and values of one key head: over the heads of its group in order, and their queries in order.
template <typename T>
__device__ void attend_back_keys(Side<T> q, Side<T> k, Side<T> v, Side<T> gout, Kept kept, Sight sight, u32 first,
                                 u32 group, u32 dim, float scale, T* gk, T* gv, u32 gkv_stride) {
    DYNAMIC_SHARED(float, room);
    u32 warp = threadIdx.x >> 5, column = blockIdx.y * dim, pitch = dim + 1;
    float *qs = room, *gs = qs + OTHERS * pitch, *ks = gs + OTHERS * pitch, *vs = ks + ROWS * dim, *ps = vs + ROWS * dim;
    float* ss = ps + ROWS * OTHERS;
    u32 last = first + ROWS < sight.end ? first + ROWS : sight.end;
    float of_k[MINE][WIDEST], of_v[MINE][WIDEST];
#pragma unroll
    for (u32 r = 0; r < MINE; r++)
#pragma unroll
        for (u32 i = 0; i < WIDEST; i++) of_k[r][i] = of_v[r][i] = 0.f;
    fetch(k, column, first, last, ROWS, dim, dim, ks);
    fetch(v, column, first, last, ROWS, dim, dim, vs);
    u32 end = sight.queries_end(last);
    for (u32 head = blockIdx.y * group; head < (blockIdx.y + 1) * group; head++)
        for (u32 base = sight.queries_begin(first); base < end; base += OTHERS) {
            __syncthreads();
            fetch(q, head * dim, base, end, OTHERS, dim, pitch, qs);
            fetch(gout, head * dim, base, end, OTHERS, dim, pitch, gs);
            __syncthreads();
            u32 query = base + lane(), at = query < end ? query : first;
            float lse = kept.lse[(u64)at * kept.heads + head], delta = kept.delta[(u64)at * kept.heads + head];
#pragma unroll
            for (u32 r = 0; r < MINE; r++) {
                u32 row = warp * MINE + r;
                float p, ds;
                pair_back(sight.sees(query, first + row), dot(ks + row * dim, qs + lane() * pitch, dim),
                          dot(vs + row * dim, gs + lane() * pitch, dim), lse, delta, scale, &p, &ds);
                ps[row * OTHERS + lane()] = p;
                ss[row * OTHERS + lane()] = ds;
                __syncwarp();
                blend(ps + row * OTHERS, gs, dim, pitch, of_v[r]);
                blend(ss + row * OTHERS, qs, dim, pitch, of_k[r]);
            }
        }
#pragma unroll
    for (u32 r = 0; r < MINE; r++) {
        u64 at = (u64)(first + warp * MINE + r) * gkv_stride + column;
#pragma unroll
        for (u32 i = 0; i < WIDEST; i++)
            if (first + warp * MINE + r < last && lane() + 32 * i < dim) {
                put(gk + at + lane() + 32 * i, of_k[r][i]);
                put(gv + at + lane() + 32 * i, of_v[r][i]);
            }
    }
}

template <typename T>
__device__ __forceinline__ Side<T> side(const void* at, u32 stride) {
    Side<T> out = {(const T*)at, stride};
    return out;
}

__device__ __forceinline__ Sight sight_of(const u32* tiles, u32 window, u32 causal) {
    Sight out = {tiles[3 * blockIdx.x], tiles[3 * blockIdx.x + 1], window, causal};
    return out;
}

}  // namespace net

// Grid: tiles, heads. `out` has rows of heads * dim numbers, `lse` of heads.
extern "C" __global__ void net_attend(const void* q, u32 q_stride, const void* k, const void* v, u32 kv_stride,
                                      u32 v_stride, u32 half, const u32* tiles, u32 heads, u32 group, u32 dim,
                                      float scale, u32 window, u32 causal, const float* relative, u32 reach, void* out,
                                      float* lse) {
    net::Sight sight = net::sight_of(tiles, window, causal);
    u32 first = tiles[3 * blockIdx.x + 2];
    if (half)
        net::attend(net::side<bf16>(q, q_stride), net::side<bf16>(k, kv_stride), net::side<bf16>(v, v_stride), sight,
                    first, heads, group, dim, scale, relative, reach, (bf16*)out, lse);
    else
        net::attend(net::side<float>(q, q_stride), net::side<float>(k, kv_stride), net::side<float>(v, v_stride), sight,
                    first, heads, group, dim, scale, relative, reach, (float*)out, lse);
}

// delta[row, head] = out . gout; rows is tokens times heads, a warp each.
extern "C" __global__ void net_attend_delta(const void* out, const void* gout, u32 half, u64 rows, u32 dim, float* delta) {
    u64 row = net::warp_index(), at = row * dim;
    if (row >= rows) return;
    float sum = 0.f;
    for (u32 t = net::lane(); t < dim; t += 32)
        sum += half ? net::wide(((const bf16*)out)[at + t]) * net::wide(((const bf16*)gout)[at + t])
                    : ((const float*)out)[at + t] * ((const float*)gout)[at + t];
    sum = warp_sum(sum);
    if (net::lane() == 0) delta[row] = sum;
}

// Grid: tiles, heads.
extern "C" __global__ void net_attend_back_queries(const void* q, u32 q_stride, const void* k, const void* v,
                                                   u32 kv_stride, u32 v_stride, u32 half, const u32* tiles, u32 heads,
                                                   u32 group, u32 dim, float scale, u32 window, u32 causal,
                                                   const void* gout, const float* lse, const float* delta, void* gq,
                                                   u32 g_stride) {
    net::Sight sight = net::sight_of(tiles, window, causal);
    net::Kept kept = {lse, delta, heads};
    u32 first = tiles[3 * blockIdx.x + 2];
    if (half)
        net::attend_back_queries(net::side<bf16>(q, q_stride), net::side<bf16>(k, kv_stride),
                                 net::side<bf16>(v, v_stride), net::side<bf16>(gout, heads * dim), kept, sight, first,
                                 group, dim, scale, (bf16*)gq, g_stride);
    else
        net::attend_back_queries(net::side<float>(q, q_stride), net::side<float>(k, kv_stride),
                                 net::side<float>(v, v_stride), net::side<float>(gout, heads * dim), kept, sight, first,
                                 group, dim, scale, (float*)gq, g_stride);
}

// Grid: tiles, key heads.
extern "C" __global__ void net_attend_back_keys(const void* q, u32 q_stride, const void* k, const void* v,
                                                u32 kv_stride, u32 v_stride, u32 half, const u32* tiles, u32 heads,
                                                u32 group, u32 dim, float scale, u32 window, u32 causal,
                                                const void* gout, const float* lse, const float* delta, void* gk,
                                                void* gv, u32 g_stride) {
    net::Sight sight = net::sight_of(tiles, window, causal);
    net::Kept kept = {lse, delta, heads};
    u32 first = tiles[3 * blockIdx.x + 2];
    if (half)
        net::attend_back_keys(net::side<bf16>(q, q_stride), net::side<bf16>(k, kv_stride), net::side<bf16>(v, v_stride),
                              net::side<bf16>(gout, heads * dim), kept, sight, first, group, dim, scale, (bf16*)gk,
                              (bf16*)gv, g_stride);
    else
        net::attend_back_keys(net::side<float>(q, q_stride), net::side<float>(k, kv_stride),
                              net::side<float>(v, v_stride), net::side<float>(gout, heads * dim), kept, sight, first,
                              group, dim, scale, (float*)gk, (float*)gv, g_stride);
}
