// Activations, biases, the loss of rows of logits, and pooling.

namespace net {

__device__ __forceinline__ float sigmoid(float x) { return 1.f / (1.f + expf(-x)); }

__device__ __forceinline__ float swiglu(float g, float u) { return g * sigmoid(g) * u; }

// silu(gate) up of two neighbours; `pair` is a row of gates with the ups behind them.
template <typename T>
__device__ void swiglu_two(const T* pair, u32 width, u32 column, T* out) {
    float2 g = wide2(pair + column), u = wide2(pair + width + column);
    put2(out, swiglu(g.x, u.x), swiglu(g.y, u.y));
}

// Gradients of gate and up in their places: dg = dy u s (1 + g (1 - s)), du = dy g s.
__device__ __forceinline__ void swiglu_back(float gy, float& g, float& u) {
    float s = sigmoid(g), gate = gy * u * s * (1.f + g * (1.f - s));
    u = gy * g * s;
    g = gate;
}

template <typename T>
__device__ void swiglu_back_two(const T* gy, T* pair, u32 width, u32 column) {
    float2 d = wide2(gy), g = wide2(pair + column), u = wide2(pair + width + column);
    swiglu_back(d.x, g.x, u.x);
    swiglu_back(d.y, g.y, u.y);
    put2(pair + column, g.x, g.y);
    put2(pair + width + column, u.x, u.y);
}

// 0: as it is; 1: gelu by erf; 2: gelu by tanh; 3: relu.
__device__ __forceinline__ float activate(float x, u32 kind) {
    if (kind == 1) return 0.5f * x * (1.f + erff(x * 0.70710678f));
    if (kind == 2) return 0.5f * x * (1.f + tanhf(0.7978845608f * (x + 0.044715f * x * x * x)));
    if (kind == 3) return x > 0.f ? x : 0.f;
    return x;
}

template <typename T>
__device__ void bias_two(T* y, float2 b, u32 kind) {
    float2 v = wide2(y);
    put2(y, activate(v.x + b.x, kind), activate(v.y + b.y, kind));
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

// Column of the first of the two neighbours that a thread takes. Grids: rows, blocks of columns.
__device__ __forceinline__ u32 net_column() { return 2 * (blockIdx.y * blockDim.x + threadIdx.x); }

extern "C" __global__ void net_swiglu(const void* pairs, u32 half, u32 width, void* out) {
    u32 column = net_column();
    u64 row = blockIdx.x, at = row * width + column;
    if (column >= width) return;
    if (half)
        net::swiglu_two((const bf16*)pairs + row * 2 * width, width, column, (bf16*)out + at);
    else
        net::swiglu_two((const float*)pairs + row * 2 * width, width, column, (float*)out + at);
}

extern "C" __global__ void net_swiglu_back(const void* gy, u32 half, u32 width, void* pairs) {
    u32 column = net_column();
    u64 row = blockIdx.x, at = row * width + column;
    if (column >= width) return;
    if (half)
        net::swiglu_back_two((const bf16*)gy + at, (bf16*)pairs + row * 2 * width, width, column);
    else
        net::swiglu_back_two((const float*)gy + at, (float*)pairs + row * 2 * width, width, column);
}

// y = activation(y + bias), row by row.
extern "C" __global__ void net_bias(void* y, u32 half, const float* bias, u32 width, u32 kind) {
    u32 column = net_column();
    u64 at = (u64)blockIdx.x * width + column;
    if (column >= width) return;
    float2 b = net::wide2(bias + column);
    if (half)
        net::bias_two((bf16*)y + at, b, kind);
    else
        net::bias_two((float*)y + at, b, kind);
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

namespace net {

// The largest number of a part of a row with its place, the first of equals, and the sum of exp(number - largest).
struct Top {
    float most, sum;
    u32 place;
    __device__ __forceinline__ void take(float x, u32 at) {
        if (x > most) sum = sum * expf(most - x), most = x, place = at;
        sum += expf(x - most);
    }
    __device__ __forceinline__ void join(Top other) {
        bool better = other.most > most || (other.most == most && other.place < place);
        float top = better ? other.most : most;
        sum = (most == top ? sum : sum * expf(most - top)) + (other.most == top ? other.sum : other.sum * expf(other.most - top));
        most = top;
        if (better) place = other.place;
    }
};

}  // namespace net

// A block takes a row of logits: nll = ln(sum exp(z - max)) + max - z[label]; hit tells whether the label has the largest
// logit, the first of equals. With `learn`, slope = scales[row] (softmax(z) - onehot(label)), for the way back.
extern "C" __global__ void net_cross_entropy(const float* logits, const u32* labels, u32 width, float* nll, u32* hit,
                                             const float* scales, u32 learn, void* slope, u32 half) {
    __shared__ net::Top room[32];
    u64 start = (u64)blockIdx.x * width;
    const float* row = logits + start;
    u32 label = labels[blockIdx.x];
    net::Top top = {-INFINITE, 0.f, FULL};
    for (u32 t = threadIdx.x; t < width; t += blockDim.x) top.take(row[t], t);
    for (int far = 16; far > 0; far >>= 1) {
        net::Top other = {__shfl_xor_sync(FULL, top.most, far), __shfl_xor_sync(FULL, top.sum, far),
                          __shfl_xor_sync(FULL, top.place, far)};
        // Both partners join in one order, so that both get the same bits.
        net::Top first = (net::lane() & far) ? other : top;
        first.join((net::lane() & far) ? top : other);
        top = first;
    }
    if (net::lane() == 0) room[threadIdx.x >> 5] = top;
    __syncthreads();
    top = room[0];
    for (u32 i = 1; i < blockDim.x >> 5; i++) top.join(room[i]);
    if (threadIdx.x == 0) {
        nll[blockIdx.x] = (float)(log((double)top.sum) + (double)top.most - (double)row[label]);
        hit[blockIdx.x] = top.place == label;
    }
    if (!learn) return;
    float scale = scales[blockIdx.x], share = scale / top.sum;
    for (u32 t = threadIdx.x; t < width; t += blockDim.x) {
        float v = expf(row[t] - top.most) * share - (t == label ? scale : 0.f);
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
