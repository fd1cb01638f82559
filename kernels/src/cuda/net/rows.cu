// Norms, gathers and everything else that goes row by row; a warp takes a row.
//
// A row of a norm lies at (row / group) * stride + (row % group) * width: whole rows with group 1, or the heads of a
// token side by side. The residual stream and the factors of norms are f32, whatever the activations are.

namespace net {

struct Place {
    u32 group, width;
    __device__ __forceinline__ u64 at(u64 row, u32 stride) const {
        return row / group * (u64)stride + row % group * (u64)width;
    }
};

// y = gain x / r, r = sqrt(mean(x^2) + eps); 1 / r is kept for the way back.
template <typename X, typename Y>
__device__ void rms_norm(const X* x, u32 stride, const float* gain, float eps, u64 row, Place place, Y* y, u32 y_stride,
                         float* inverse) {
    const X* from = x + place.at(row, stride);
    Y* to = y + place.at(row, y_stride);
    float sum = 0.f;
    for (u32 t = 2 * lane(); t < place.width; t += 64) {
        float2 v = wide2(from + t);
        sum += v.x * v.x + v.y * v.y;
    }
    float factor = 1.f / sqrtf(warp_sum(sum) / (float)place.width + eps);
    if (lane() == 0) inverse[row] = factor;
    for (u32 t = 2 * lane(); t < place.width; t += 64) {
        float2 v = wide2(from + t), g = wide2(gain + t);
        put2(to + t, v.x * factor * g.x, v.y * factor * g.y);
    }
}

// With u = gy gain: gx = (u - x mean(u x) / r^2) / r, added to what is there or put in its place.
template <typename X, typename G, typename Y>
__device__ void rms_back(const X* x, u32 stride, const float* gain, float factor, const G* gy, u32 gy_stride, u64 row,
                         Place place, Y* gx, u32 gx_stride, bool add) {
    const X* from = x + place.at(row, stride);
    const G* slope = gy + place.at(row, gy_stride);
    Y* to = gx + place.at(row, gx_stride);
    float sum = 0.f;
    for (u32 t = 2 * lane(); t < place.width; t += 64) {
        float2 v = wide2(from + t), g = wide2(gain + t), d = wide2(slope + t);
        sum += v.x * g.x * d.x + v.y * g.y * d.y;
    }
    float pull = warp_sum(sum) * factor * factor / (float)place.width;
    for (u32 t = 2 * lane(); t < place.width; t += 64) {
        float2 v = wide2(from + t), g = wide2(gain + t), d = wide2(slope + t);
        float2 old = add ? wide2(to + t) : make_float2(0.f, 0.f);
        put2(to + t, old.x + (d.x * g.x - v.x * pull) * factor, old.y + (d.y * g.y - v.y * pull) * factor);
    }
}

template <typename X, typename G>
__device__ float column_sum(const X* x, u32 stride, const float* inverse, const G* gy, u32 gy_stride, u64 first,
                            u64 last, Place place, u32 column, bool with_x) {
    float sum = 0.f;
    for (u64 row = first; row < last; row++) {
        float g = wide(gy[place.at(row, gy_stride) + column]);
        sum += with_x ? g * (wide(x[place.at(row, stride) + column]) * inverse[row]) : g;
    }
    return sum;
}

// x = gain (x - mean) / sqrt(var + eps) + shift, once as f32, once as an activation.
template <typename T>
__device__ void layer_norm(float* x, const float* gain, const float* shift, float eps, u32 width, T* narrow) {
    float sum = 0.f, squares = 0.f;
    for (u32 t = 2 * lane(); t < width; t += 64) {
        float2 v = wide2(x + t);
        sum += v.x + v.y;
    }
    float mean = warp_sum(sum) / (float)width;
    for (u32 t = 2 * lane(); t < width; t += 64) {
        float2 v = wide2(x + t);
        squares += (v.x - mean) * (v.x - mean) + (v.y - mean) * (v.y - mean);
    }
    float factor = 1.f / sqrtf(warp_sum(squares) / (float)width + eps);
    for (u32 t = 2 * lane(); t < width; t += 64) {
        float2 v = wide2(x + t), g = wide2(gain + t), s = wide2(shift + t);
        v = make_float2((v.x - mean) * factor * g.x + s.x, (v.y - mean) * factor * g.y + s.y);
        put2(x + t, v.x, v.y);
        put2(narrow + t, v.x, v.y);
    }
}

// x += y + bias
template <typename T>
__device__ void add_biased(float* x, const T* y, const float* bias, u32 width) {
    for (u32 t = 2 * lane(); t < width; t += 64) {
        float2 v = wide2(x + t), w = wide2(y + t), b = wide2(bias + t);
        put2(x + t, v.x + (w.x + b.x), v.y + (w.y + b.y));
    }
}

// x = word + place
template <typename T>
__device__ void add_rows(float* x, const T* word, const float* place, u32 width) {
    for (u32 t = 2 * lane(); t < width; t += 64) {
        float2 w = wide2(word + t), p = wide2(place + t);
        put2(x + t, w.x + p.x, w.y + p.y);
    }
}

template <typename T>
__device__ void copy_row(const T* from, u32 width, float* to) {
    for (u32 t = 2 * lane(); t < width; t += 64) {
        float2 v = wide2(from + t);
        put2(to + t, v.x, v.y);
    }
}

// (a, b) -> (a c - b s, b c + a s)
template <typename T>
__device__ void turn_pair(T* a, T* b, float c, float s) {
    float first = wide(*a), second = wide(*b);
    put(a, first * c - second * s);
    put(b, second * c + first * s);
}

}  // namespace net

// `from_half` and `half` tell whether x and y hold bf16.
extern "C" __global__ void net_rms_norm(const void* x, u32 from_half, u32 stride, const float* gain, float eps,
                                        u64 rows, u32 group, u32 width, void* y, u32 half, u32 y_stride,
                                        float* inverse) {
    u64 row = net::warp_index();
    if (row >= rows) return;
    net::Place place = {group, width};
    if (from_half)
        net::rms_norm((const bf16*)x, stride, gain, eps, row, place, (bf16*)y, y_stride, inverse);
    else if (half)
        net::rms_norm((const float*)x, stride, gain, eps, row, place, (bf16*)y, y_stride, inverse);
    else
        net::rms_norm((const float*)x, stride, gain, eps, row, place, (float*)y, y_stride, inverse);
}

// `half` tells whether gy holds bf16, `from_half` whether x and gx do. With `add` gx grows, else it is written.
extern "C" __global__ void net_rms_back(const void* x, u32 from_half, u32 stride, const float* gain,
                                        const float* inverse, const void* gy, u32 half, u32 gy_stride, u64 rows,
                                        u32 group, u32 width, void* gx, u32 gx_stride, u32 add) {
    u64 row = net::warp_index();
    if (row >= rows) return;
    net::Place place = {group, width};
    float factor = inverse[row];
    if (from_half)
        net::rms_back((const bf16*)x, stride, gain, factor, (const bf16*)gy, gy_stride, row, place, (bf16*)gx,
                      gx_stride, add != 0);
    else if (half)
        net::rms_back((const float*)x, stride, gain, factor, (const bf16*)gy, gy_stride, row, place, (float*)gx,
                      gx_stride, add != 0);
    else
        net::rms_back((const float*)x, stride, gain, factor, (const float*)gy, gy_stride, row, place, (float*)gx,
                      gx_stride, add != 0);
}

// Column sums over chunks of rows: of gy, or of gy x / r with `with_x`. `net_fold` adds the chunks up.
extern "C" __global__ void net_column_part(const void* x, u32 from_half, u32 stride, const float* inverse,
                                           const void* gy, u32 half, u32 gy_stride, u64 rows, u32 group, u32 width,
                                           u32 chunk, u32 with_x, float* part) {
    u32 column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= width) return;
    net::Place place = {group, width};
    u64 first = (u64)blockIdx.y * chunk, last = first + chunk < rows ? first + chunk : rows;
    float sum;
    if (half && from_half)
        sum = net::column_sum((const bf16*)x, stride, inverse, (const bf16*)gy, gy_stride, first, last, place, column,
                              with_x != 0);
    else if (half)
        sum = net::column_sum((const float*)x, stride, inverse, (const bf16*)gy, gy_stride, first, last, place, column,
                              with_x != 0);
    else
        sum = net::column_sum((const float*)x, stride, inverse, (const float*)gy, gy_stride, first, last, place, column,
                              with_x != 0);
    part[(u64)blockIdx.y * width + column] = sum;
}

// sums[i] += the chunks' sums, in their order.
extern "C" __global__ void net_fold(const float* part, u32 chunks, u32 width, float* sums) {
    u32 column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= width) return;
    float sum = 0.f;
    for (u32 i = 0; i < chunks; i++) sum += part[(u64)i * width + column];
    sums[column] += sum;
}

// x = norm(x + y + bias), and the same as an activation.
extern "C" __global__ void net_residual_norm(const void* y, u32 half, const float* bias, float* x, const float* gain,
                                             const float* shift, float eps, u64 rows, u32 width, void* narrow) {
    u64 row = net::warp_index(), at = row * width;
    if (row >= rows) return;
    if (half) {
        net::add_biased(x + at, (const bf16*)y + at, bias, width);
        net::layer_norm(x + at, gain, shift, eps, width, (bf16*)narrow + at);
    } else {
        net::add_biased(x + at, (const float*)y + at, bias, width);
        net::layer_norm(x + at, gain, shift, eps, width, (float*)narrow + at);
    }
}

// x = norm(words[ids] + places[positions]), and the same as an activation.
extern "C" __global__ void net_embed_norm(const void* words, u32 half, const float* places, const u32* ids,
                                          const u32* positions, const float* gain, const float* shift, float eps,
                                          u64 rows, u32 width, float* x, void* narrow) {
    u64 row = net::warp_index(), at = row * width;
    if (row >= rows) return;
    u64 from = (u64)ids[row] * width, place = (u64)positions[row] * width;
    if (half) {
        net::add_rows(x + at, (const bf16*)words + from, places + place, width);
        net::layer_norm(x + at, gain, shift, eps, width, (bf16*)narrow + at);
    } else {
        net::add_rows(x + at, (const float*)words + from, places + place, width);
        net::layer_norm(x + at, gain, shift, eps, width, (float*)narrow + at);
    }
}

// out[i] = table[ids[i]]
extern "C" __global__ void net_copy_rows(const void* table, u32 half, const u32* ids, u64 rows, u32 width, float* out) {
    u64 row = net::warp_index();
    if (row >= rows) return;
    u64 from = (u64)ids[row] * width;
    if (half)
        net::copy_row((const bf16*)table + from, width, out + row * width);
    else
        net::copy_row((const float*)table + from, width, out + row * width);
}

// table[ids[i]] = rows[i]; every id comes once.
extern "C" __global__ void net_put_rows(const float* rows, const u32* ids, u64 count, u32 width, float* table) {
    u64 row = net::warp_index();
    if (row >= count) return;
    net::copy_row(rows + row * width, width, table + (u64)ids[row] * width);
}

// table[ids[i]] += the rows order[starts[i] .. starts[i + 1]], in that order: no two warps write one place.
extern "C" __global__ void net_scatter_add(const float* rows, const u32* ids, const u32* starts, const u32* order,
                                           u64 count, u32 width, float* table) {
    u64 at = net::warp_index();
    if (at >= count) return;
    for (u32 t = net::lane(); t < width; t += 32) {
        float sum = table[(u64)ids[at] * width + t];
        for (u32 i = starts[at]; i < starts[at + 1]; i++) sum += rows[(u64)order[i] * width + t];
        table[(u64)ids[at] * width + t] = sum;
    }
}

// Rotary positions of `heads` heads of every token: a = x[i], b = x[i + pairs] of a head; `turn` is 1, or -1 for the way
// back. Grid: tokens, blocks of pairs.
extern "C" __global__ void net_rotate(void* x, u32 half, u32 stride, const float* cos, const float* sin,
                                      const u32* positions, u32 heads, u32 pairs, float turn) {
    u32 token = blockIdx.x, at = blockIdx.y * blockDim.x + threadIdx.x, i = at % pairs;
    if (at >= heads * pairs) return;
    u64 from = (u64)token * stride + (u64)(at / pairs) * (2 * pairs) + i, place = (u64)positions[token] * pairs + i;
    float c = cos[place], s = turn * sin[place];
    if (half)
        net::turn_pair((bf16*)x + from, (bf16*)x + from + pairs, c, s);
    else
        net::turn_pair((float*)x + from, (float*)x + from + pairs, c, s);
}
