// Numbers of the networks' kernels: activations are f32 or bf16, told by a flag of the launch; sums are f32. Reductions
// run in a fixed order, so that the same input gives the same bits.

namespace net {

__device__ __forceinline__ float wide(float x) { return x; }
__device__ __forceinline__ float wide(bf16 x) { return to_float(x); }
__device__ __forceinline__ void put(float* to, float x) { *to = x; }
__device__ __forceinline__ void put(bf16* to, float x) { to->bits = (u16)pack_bf16(x, 0.f); }

__device__ __forceinline__ u32 lane() { return threadIdx.x & 31; }
__device__ __forceinline__ u64 thread_index() { return (u64)blockIdx.x * blockDim.x + threadIdx.x; }
__device__ __forceinline__ u64 warp_index() { return thread_index() >> 5; }

// Of all threads of a block; `room` holds 32 numbers. Given to all.
__device__ __forceinline__ float block_sum(float x, float* room) {
    x = warp_sum(x);
    __syncthreads();
    if (lane() == 0) room[threadIdx.x >> 5] = x;
    __syncthreads();
    float sum = 0.f;
    for (u32 i = 0; i < (blockDim.x + 31) >> 5; i++) sum += room[i];
    return sum;
}

}  // namespace net
