// Numbers of the networks' kernels: activations are f32 or bf16, told by a flag of the launch; sums are f32. Reductions
// run in a fixed order, so that the same input gives the same bits.

namespace net {

__device__ __forceinline__ float wide(float x) { return x; }
__device__ __forceinline__ float wide(bf16 x) { return to_float(x); }
__device__ __forceinline__ void put(float* to, float x) { *to = x; }
__device__ __forceinline__ void put(bf16* to, float x) { to->bits = (u16)pack_bf16(x, 0.f); }

// Two neighbours at once, from an even place: rows begin at even places because every width is even.
__device__ __forceinline__ float2 wide2(const float* from) { return *(const float2*)from; }
__device__ __forceinline__ float2 wide2(const bf16* from) {
    u32 pair = *(const u32*)from;
    return make_float2(low_half(pair), high_half(pair));
}
__device__ __forceinline__ void put2(float* to, float x, float y) { *(float2*)to = make_float2(x, y); }
__device__ __forceinline__ void put2(bf16* to, float x, float y) { *(u32*)to = pack_bf16(x, y); }

__device__ __forceinline__ u32 lane() { return threadIdx.x & 31; }
__device__ __forceinline__ u64 thread_index() { return (u64)blockIdx.x * blockDim.x + threadIdx.x; }
__device__ __forceinline__ u64 warp_index() { return thread_index() >> 5; }

}  // namespace net
