// Beta draws, one row a thread: the streams, the ziggurat and the tests of chance.rs in the same order, so that draws have the same bits
// wherever no logarithm or exponential takes part, and differ by their last bits elsewhere.

#define LAYERS 128
#define TAIL 3.442619855899
#define STRIDE 0xD1342543DE82EF95ull

__device__ __forceinline__ u64 mixed(u64 z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
}

// The upper 53 bits as a number in the open interval (0, 1).
__device__ __forceinline__ double between(u64 bits) { return ((double)(bits >> 11) + 0.5) * (1.0 / 9007199254740992.0); }

struct Stream {
    u64 state;
    const double *edge, *inner;

    __device__ __forceinline__ u64 bits() { return mixed(state += 0x9E3779B97F4A7C15ull); }
    __device__ __forceinline__ double uniform() { return between(bits()); }

    __device__ double tail() {
        for (;;) {
            double x = -log(uniform()) / TAIL;
            if (-2.0 * log(uniform()) >= x * x) return TAIL + x;
        }
    }
    __device__ double normal() {
        for (;;) {
            u64 drawn = bits();
            u32 layer = (u32)(drawn % LAYERS);
            double u = 2.0 * between(drawn) - 1.0, x = u * edge[layer];
            if (fabs(u) < inner[layer]) return x;
            if (layer == 0) return copysign(tail(), u);
            double low = exp(-0.5 * (edge[layer] * edge[layer] - x * x)), high = exp(-0.5 * (edge[layer + 1] * edge[layer + 1] - x * x));
            if (high + uniform() * (low - high) < 1.0) return x;
        }
    }
    // Of a shape of at least 1.
    __device__ double gamma(double shape) {
        double width = 1.0 / sqrt(9.0 * shape - 3.0), d = shape - 1.0 / 3.0;
        for (;;) {
            double x = normal(), z = width * x, u = uniform(), root = 1.0 + z, cube = root * root * root, square = z * z;
            if (z >= -0.5 && u < 1.0 - 1.5 * d * square * square) return d * cube;
            if (root > 0.0 && log(u) < 0.5 * x * x + d * (1.0 - cube + log(cube))) return d * cube;
        }
    }
    __device__ double log_gamma(double shape) {
        if (shape >= 1.0) return log(gamma(shape));
        double one_more = log(gamma(shape + 1.0));
        return one_more + log(uniform()) / shape;
    }
    __device__ double beta(double a, double b) {
        if (a < 1.0 || b < 1.0) {
            double x = log_gamma(a), y = log_gamma(b);
            return 1.0 / (1.0 + exp(y - x));
        }
        if (a + b <= 2.0) return uniform();
        double x = gamma(a), y = gamma(b);
        return x / (x + y);
    }
};

// draws[i] from Beta(shapes[i]) with the stream of rows[i] under `key`; `table` holds the edges and inner parts of the layers.
extern "C" __global__ void beta_draws(u64 key, const u64* rows, const double* shapes, u64 n, const double* table, double* draws) {
    u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    Stream stream = {mixed(key + rows[i] * STRIDE), table, table + LAYERS + 1};
    draws[i] = stream.beta(shapes[2 * i], shapes[2 * i + 1]);
}
