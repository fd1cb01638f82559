// Nearest rows by tensor cores, exactly: products of bf16 images with a bound on what rounding did pick the few that need to be looked at,
// and those are compared by their canonical values (canonical.cuh).
//
// A row x becomes x' = x - m, its bf16 image y^, and a length n >= |x'|, |y^|; a centroid c likewise z^, and E with
//     |x'.c' - y^.z^| + all f32 rounding <= n E,   E = |z - z^| + r |z| + A |c'|
// (r is the largest share of any row that rounding to bf16 takes; a row that loses more than 1/128 is compared with all). So
// u = y^.z^ - |c'|^2 / 2 + n E is never below the half of |x'|^2 - |x - c|^2, and u - 2 n E never above. A covers the tensor cores too:
// each adds 16 products and cuts every partial sum to no fewer than 24 bits of its largest term.
//
// Blocks of 128 rows meet tiles of 128 centroids; a warp holds 32 x 64 scores in registers, rows stay in shared memory, centroids stream
// through it by asynchronous copies, three stages deep. Distances are never written. Cost: n k d in bf16.

#define TILE_ROWS 128
#define TILE_COLUMNS 128
#define CHUNK 64         // bf16 numbers of a row in one stage: 128 bytes
#define STAGES 3
#define THREADS 256
#define CHUNK_BYTES (TILE_ROWS * CHUNK * 2)
#define LISTS 8          // threads that share a row: four lanes in each of two warps
#define LARGE 1e30f      // centred squared norms from here on are compared in full

// Where 16 bytes (unit 0 to 7) of a row lie in a stage: turned by the row, so that neither copies nor reads collide.
__device__ __forceinline__ u32 place(u32 row, u32 unit) { return row * 128 + ((unit ^ (row & 7)) << 4); }

// One row, by a warp: its bf16 image and length; of rows (`per_square` < 0) `ratio` becomes the largest share that rounding takes, and
// centroids, which come after, get error and bias.
extern "C" __global__ void sketch(const float* x, u64 n, u32 dim, const float* centre, u32 width, double per_product, double per_square,
                                  u32 halved, u32* ratio, u32* words, float* length, float* sq_norm, float* error, float* bias) {
    u64 row = warp_index();
    if (row >= n) return;
    u32 lane = threadIdx.x & 31;
    const float* from = x + row * dim;
    float square = 0.f, kept = 0.f, lost = 0.f;
    for (u32 pair = lane; pair < width / 2; pair += 32) {
        float two[2];
        for (u32 h = 0; h < 2; h++) {
            u32 t = 2 * pair + h;
            float v = t < dim ? __fsub_rn(from[t], centre[t]) : 0.f, r = round_bf16(v), d = __fsub_rn(v, r);
            two[h] = r;
            square = __fmaf_rn(v, v, square);
            kept = __fmaf_rn(r, r, kept);
            lost = __fmaf_rn(d, d, lost);
        }
        words[row * (width / 2) + pair] = pack_bf16(two[0], two[1]);
    }
    square = warp_sum(square), kept = warp_sum(kept), lost = warp_sum(lost);
    if (lane != 0) return;
    // Lengths are sums of at most dim / 32 + 5 roundings: a thousandth is far more than those of any width we take.
    double own = sqrt((double)fmaxf(square, kept)) * 1.001, away = sqrt((double)lost) * 1.001;
    sq_norm[row] = square;
    length[row] = __double2float_ru(own);
    if (per_square >= 0.0) {
        error[row] = __double2float_ru(away + own * ((double)__uint_as_float(*ratio) + per_product));
        bias[row] = halved ? __double2float_ru((per_square - 0.5) * (double)square) : 0.f;
        return;
    }
    float share = own > 0.0 ? __double2float_ru(away / own) : 0.f;
    if (!(share <= 1.f / 128.f)) sq_norm[row] = INFINITE;
    else if (__float_as_uint(share) > *(volatile u32*)ratio) atomicMax(ratio, __float_as_uint(share));
}

struct Tiles {
    const u32* rows;      // images, `width` bf16 each
    u64 n;
    const u32* columns;
    u32 k, width;         // the columns' images, error and bias are padded to whole tiles
    const float* length;
    const float* error;
    const float* bias;
    bool resident;        // all chunks of the rows fit in shared memory
};

// Queue the copy of one chunk of 128 images; rows past the end become zeros.
__device__ __forceinline__ void fetch(unsigned char* stage, const u32* images, u64 first, u64 count, u32 width, u32 chunk) {
    u32 units = min((u32)CHUNK, width - chunk * CHUNK) / 8;
    for (u32 i = threadIdx.x; i < TILE_ROWS * 8; i += THREADS) {
        u32 row = i / 8, unit = i % 8;
        if (unit >= units) continue;
        bool there = first + row < count;
        copy_async(stage + place(row, unit), images + (there ? first + row : 0) * (width / 2) + chunk * (CHUNK / 2) + unit * 4, there);
    }
}

// Scores of 128 rows from `first` against all columns: visit(i, j, u) for local row slot i (0 to 3) of this thread and column j.
// Row slot i is local row 32 (warp % 4) + 8 i + lane / 4.
template <class Visit> __device__ __forceinline__ void scores(const Tiles& t, u64 first, unsigned char* shared, Visit visit) {
    u32 lane = threadIdx.x & 31, warp = threadIdx.x / 32, down = warp % 4, across = warp / 4;
    u32 chunks = (t.width + CHUNK - 1) / CHUNK, tiles = (t.k + TILE_COLUMNS - 1) / TILE_COLUMNS, steps = chunks * tiles;
    unsigned char* left = shared;
    unsigned char* right = shared + (t.resident ? chunks : STAGES) * CHUNK_BYTES;
    float length[4], acc[2][8][4];
    for (u32 i = 0; i < 4; i++) {
        u64 row = first + down * 32 + i * 8 + lane / 4;
        length[i] = row < t.n ? t.length[row] : 0.f;
    }
    auto queue = [&](u32 step) {
        if (step < steps) {
            u32 stage = step % STAGES, chunk = step % chunks;
            if (!t.resident) fetch(left + stage * CHUNK_BYTES, t.rows, first, t.n, t.width, chunk);
            else if (step < chunks) fetch(left + chunk * CHUNK_BYTES, t.rows, first, t.n, t.width, chunk);
            fetch(right + stage * CHUNK_BYTES, t.columns, (u64)(step / chunks) * TILE_COLUMNS, t.k, t.width, chunk);
        }
        commit_copies();
    };
    queue(0);
    queue(1);
    u32 tile = 0, chunk = 0;
    for (u32 step = 0; step < steps; step++) {
        wait_copies<1>();
        __syncthreads();
        queue(step + 2);
        if (chunk == 0) {
#pragma unroll
            for (u32 b = 0; b < 8; b++)
#pragma unroll
                for (u32 h = 0; h < 2; h++) {
                    float v = __ldg(t.bias + tile * TILE_COLUMNS + across * 64 + b * 8 + lane % 4 * 2 + h);
                    acc[0][b][h] = acc[0][b][2 + h] = acc[1][b][h] = acc[1][b][2 + h] = v;
                }
        }
        const unsigned char* mine = left + (t.resident ? chunk : step % STAGES) * CHUNK_BYTES;
        const unsigned char* theirs = right + step % STAGES * CHUNK_BYTES;
        u32 parts = min((u32)CHUNK, t.width - chunk * CHUNK) / 16;
        for (u32 part = 0; part < parts; part++) {
            u32 a[2][4];
#pragma unroll
            for (u32 i = 0; i < 2; i++) load_matrices(a[i], mine + place(down * 32 + i * 16 + lane % 16, part * 2 + lane / 16));
#pragma unroll
            for (u32 b = 0; b < 4; b++) {
                u32 two[4];
                load_matrices(two, theirs + place(across * 64 + b * 16 + lane % 8 + lane / 16 * 8, part * 2 + lane / 8 % 2));
#pragma unroll
                for (u32 i = 0; i < 2; i++) {
                    mma_bf16(acc[i][2 * b], a[i], two);
                    mma_bf16(acc[i][2 * b + 1], a[i], two + 2);
                }
            }
        }
        if (++chunk < chunks) continue;
#pragma unroll
        for (u32 b = 0; b < 8; b++)
#pragma unroll
            for (u32 h = 0; h < 2; h++) {
                u32 column = tile * TILE_COLUMNS + across * 64 + b * 8 + lane % 4 * 2 + h;
                float error = __ldg(t.error + column);
#pragma unroll
                for (u32 i = 0; i < 4; i++) visit(i, column, __fmaf_rn(length[i], error, acc[i / 2][b][i % 2 * 2 + h]));
            }
        chunk = 0;
        tile++;
    }
}

// The three best of one thread's columns; of the third the score alone.
struct Three {
    float u[3];
    u32 j[2];
    __device__ __forceinline__ void clear() {
        u[0] = u[1] = u[2] = -INFINITE;
        j[0] = j[1] = FULL;
    }
    __device__ __forceinline__ void offer(float v, u32 column) {
        if (!(v > u[2])) return;
        if (v > u[0]) u[2] = u[1], u[1] = u[0], j[1] = j[0], u[0] = v, j[0] = column;
        else if (v > u[1]) u[2] = u[1], u[1] = v, j[1] = column;
        else u[2] = v;
    }
};

// What any column must reach to be at least as near as one whose score is `u` and error `e`, for a row of that length and square.
__device__ __forceinline__ float reach(double u, double length, double e, double square, double column_square, double per_square,
                                       double per_row, bool halved) {
    double low = u - 2.001 * (length * e + (halved ? per_square * column_square : 0.0)) - 1e-35;
    if (halved) low -= 2.0 * per_row * (square + fmax(square - 2.0 * low, 0.0));
    return __double2float_rd(low - fabs(low) * 1.2e-7);
}
