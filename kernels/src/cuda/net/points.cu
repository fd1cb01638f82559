// Activations, biases, the loss of rows of logits, and pooling.

namespace net {

__device__ __forceinline__ float sigmoid(float x) { return 1.f / (1.f + expf(-x)); }

// silu(gate) up of one place; `pair` is a row of gates with the ups behind them.
template <typename T>
__device__ void swiglu(const T* pair, u32 width, u32 column, T* out) {
    float g = wide(pair[column]), u = wide(pair[width + column]);
    put(out, g * sigmoid(g) * u);
}

// Gradients of gate and up in their places: dg = dy u s (1 + g (1 - s)), du = dy g s.
template <typename T>
__device__ void swiglu_back(float gy, T* pair, u32 width, u32 column) {
    float g = wide(pair[column]), u = wide(pair[width + column]), s = sigmoid(g);
    put(pair + column, gy * u * s * (1.f + g * (1.f - s)));
    put(pair + width + column, gy * g * s);
}

// 0: as it is; 1: gelu by erf; 2: gelu by tanh; 3: relu.
__device__ __forceinline__ float activate(float x, u32 kind) {
    if (kind == 1) return 0.5f * x * (1.f + erff(x * 0.70710678f));
    if (kind == 2) return 0.5f * x * (1.f + tanhf(0.7978845608f * (x + 0.044715f * x * x * x)));
    if (kind == 3) return x > 0.f ? x : 0.f;
    return x;
}

template <typename T>
__device__ float pooled(const T* rows, u32 width, u32 count, u32 kind) {
    if (count == 0) return 0.f;
    if (kind == 0) return wide(rows[0]);
    if (kind == 1) return wide(rows[(u64)(count - 1) * width]);
    float v = wide(rows[0]);
    for (u32 i = 1; i < count; i++) {
        float x = wide(rows[(u64)i * width]);
        v = kind == 2 ? fmaxf(v, x) : v + x;
    }
    return kind == 3 ? v / (float)count : kind == 4 ? v / sqrtf((float)count) : v;
}

}  // namespace net

extern "C" __global__ void net_swiglu(const void* pairs, u32 half, u64 rows, u32 width, void* out) {
    u64 at = net::thread_index(), row = at / width;
    if (row >= rows) return;
    u32 column = (u32)(at % width);
    if (half)
        net::swiglu((const bf16*)pairs + row * 2 * width, width, column, (bf16*)out + at);
    else
        net::swiglu((const float*)pairs + row * 2 * width, width, column, (float*)out + at);
}

extern "C" __global__ void net_swiglu_back(const void* gy, u32 half, u64 rows, u32 width, void* pairs) {
    u64 at = net::thread_index(), row = at / width;
    if (row >= rows) return;
    u32 column = (u32)(at % width);
    if (half)
        net::swiglu_back(net::wide(((const bf16*)gy)[at]), (bf16*)pairs + row * 2 * width, width, column);
    else
        net::swiglu_back(((const float*)gy)[at], (float*)pairs + row * 2 * width, width, column);
}

// y = activation(y + bias), row by row.
extern "C" __global__ void net_bias(void* y, u32 half, const float* bias, u64 rows, u32 width, u32 kind) {
    u64 at = net::thread_index();
    if (at >= rows * width) return;
    float b = bias[at % width];
    if (half)
        net::put((bf16*)y + at, net::activate(net::wide(((bf16*)y)[at]) + b, kind));
    else
        net::put((float*)y + at, net::activate(((float*)y)[at] + b, kind));
}

// out = x, each as it is held: f32 (half 0) or bf16.
extern "C" __global__ void net_cast(const void* x, u32 half, u64 count, void* out, u32 out_half) {
    u64 at = net::thread_index();
    if (at >= count) return;
    float v = half ? net::wide(((const bf16*)x)[at]) : ((const float*)x)[at];
    if (out_half)
        net::put((bf16*)out + at, v);
    else
        net::put((float*)out + at, v);
}

// A block takes a row of logits: nll = ln(sum exp(z - max)) + max - z[label]; hit tells whether the label has the largest
// logit, the first of equals. With `learn`, slope = scales[row] (softmax(z) - onehot(label)), for the way back.
extern "C" __global__ void net_cross_entropy(const float* logits, const u32* labels, u32 width, float* nll, u32* hit,
                                             const float* scales, u32 learn, void* slope, u32 half) {
    __shared__ float room[32];
    __shared__ u32 places[32];
    const float* row = logits + (u64)blockIdx.x * width;
    u32 label = labels[blockIdx.x], place = FULL;
    float most = -INFINITE;
    for (u32 t = threadIdx.x; t < width; t += blockDim.x)
        if (row[t] > most) most = row[t], place = t;
    for (int far = 16; far > 0; far >>= 1) {
        float other = __shfl_xor_sync(FULL, most, far);
        u32 there = __shfl_xor_sync(FULL, place, far);
        if (other > most || (other == most && there < place)) most = other, place = there;
    }
    if (net::lane() == 0) room[threadIdx.x >> 5] = most, places[threadIdx.x >> 5] = place;
    __syncthreads();
    most = room[0], place = places[0];
    for (u32 i = 1; i < blockDim.x >> 5; i++)
        if (room[i] > most || (room[i] == most && places[i] < place)) most = room[i], place = places[i];
    float sum = 0.f;
    for (u32 t = threadIdx.x; t < width; t += blockDim.x) sum += expf(row[t] - most);
    sum = net::block_sum(sum, room);
    if (threadIdx.x == 0) {
        nll[blockIdx.x] = (float)(log((double)sum) + (double)most - (double)row[label]);
        hit[blockIdx.x] = place == label;
    }
    if (!learn) return;
    float scale = scales[blockIdx.x], share = scale / sum;
    u64 start = (u64)blockIdx.x * width;
    for (u32 t = threadIdx.x; t < width; t += blockDim.x) {
        float v = expf(row[t] - most) * share - (t == label ? scale : 0.f);
        if (half)
            net::put((bf16*)slope + start + t, v);
        else
            net::put((float*)slope + start + t, v);
    }
}

// A block pools the rows starts[b] .. starts[b + 1] into out[b]. Kinds: 0 first, 1 last, 2 largest, 3 mean, 4 sum over the
// root of the count. A text without tokens gets zeros.
extern "C" __global__ void net_pool(const float* x, const u32* starts, u32 width, u32 kind, float* out) {
    u32 first = starts[blockIdx.x], count = starts[blockIdx.x + 1] - first;
    for (u32 t = threadIdx.x; t < width; t += blockDim.x)
        out[(u64)blockIdx.x * width + t] = net::pooled(x + (u64)first * width + t, width, count, kind);
}
