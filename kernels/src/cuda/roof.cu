// How fast the chip takes exponentials: what nothing that needs one an element can beat. Each thread runs four chains of its own, so that
// latency is hidden; what comes out is written so that nothing can be left out.
extern "C" __global__ void roof_exp(float* out, u32 turns) {
    u32 at = blockIdx.x * blockDim.x + threadIdx.x;
    float x = -0.25f - 1e-4f * (float)(at & 1023u);
    float a = x, b = x - 0.1f, c = x - 0.2f, d = x - 0.3f;
    for (u32 i = 0; i < turns; i++) {
        a = exp2f(-a);
        b = exp2f(-b);
        c = exp2f(-c);
        d = exp2f(-d);
    }
    out[at] = a + b + c + d;
}
