// Inner products (or squared distances) of 64 rows of x with all rows of y, 64 at a time, in registers: 256 threads, each with 4 x 4.
#define SIDE 64
#define DEPTH 32

template <class T> struct alignas(4 * sizeof(T)) Four { T v[4]; };

// Rows `first ..` of an f32 matrix, part of their numbers, turned so that a number's 64 rows lie side by side.
template <class T> __device__ __forceinline__ void load_turned(T to[DEPTH][SIDE + 4], const float* from, u64 first, u64 count, u32 dim, u32 at) {
    for (u32 i = threadIdx.x; i < SIDE * DEPTH; i += 256) {
        u32 row = i / DEPTH, t = i % DEPTH;
        to[t][row] = first + row < count && at + t < dim ? (T)from[(first + row) * dim + at + t] : (T)0;
    }
}

// Shared memory of a walk.
template <class T> struct alignas(32) Sides { T left[DEPTH][SIDE + 4], right[DEPTH][SIDE + 4]; };

// visit(r, c, column, value) for r, c in 0..4: row first + 4 (thread / 16) + r of x, and column `column` of `from .. to` (or past its end);
// `next()` after each tile. `value` is the inner product, or the squared distance where SQUARES.
template <class T, bool SQUARES, class Visit, class Next>
__device__ __forceinline__ void walk(Sides<T>& sides, const float* x, u64 n, const float* y, u64 m, u32 dim, u64 first, u64 from, u64 to,
                                     Visit visit, Next next) {
    auto& left = sides.left;
    auto& right = sides.right;
    u32 down = threadIdx.x / 16 * 4, across = threadIdx.x % 16 * 4;
    for (u64 column = from; column < to; column += SIDE) {
        T acc[4][4];
#pragma unroll
        for (int r = 0; r < 4; r++)
#pragma unroll
            for (int c = 0; c < 4; c++) acc[r][c] = (T)0;
        for (u32 at = 0; at < dim; at += DEPTH) {
            __syncthreads();
            load_turned(left, x, first, n, dim, at);
            load_turned(right, y, column, m, dim, at);
            __syncthreads();
#pragma unroll 8
            for (u32 t = 0; t < DEPTH; t++) {
                Four<T> a = *reinterpret_cast<const Four<T>*>(&left[t][down]), b = *reinterpret_cast<const Four<T>*>(&right[t][across]);
#pragma unroll
                for (int r = 0; r < 4; r++)
#pragma unroll
                    for (int c = 0; c < 4; c++) {
                        T d = SQUARES ? a.v[r] - b.v[c] : a.v[r];
                        acc[r][c] += d * (SQUARES ? d : b.v[c]);
                    }
            }
        }
#pragma unroll
        for (int r = 0; r < 4; r++)
#pragma unroll
            for (int c = 0; c < 4; c++) visit(r, c, column + across + c, acc[r][c]);
        next();
    }
}

// Sum over the 16 threads that share rows.
__device__ __forceinline__ double row_sum(double v) {
#pragma unroll
    for (int half = 8; half > 0; half >>= 1) v += __shfl_xor_sync(FULL, v, half);
    return v;
}
