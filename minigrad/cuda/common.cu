// What the kernels have in common; it comes before each of the other sources.

#define WARPS (THREADS / 32)

#ifndef SHIM  // under a C++ compiler, shim.h stands in for CUDA: tests/cuda
#define SHARED(name) extern __shared__ __align__(16) float name[]
#define PAUSE()

// Global to shared memory, past the registers and the first-level cache; both places at multiples
// of 16 bytes.  It is there after copies_have_come() and a barrier.
__device__ __forceinline__ void copy_16_bytes(float* to, const float* from) {
#if __CUDA_ARCH__ >= 800
    const unsigned address = (unsigned)__cvta_generic_to_shared(to);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address), "l"(from) : "memory");
#else
    *(float4*)to = __ldcg((const float4*)from);
#endif
}

__device__ __forceinline__ void copies_have_come() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}
#endif

// Some rows of `length` numbers from global memory, `stride` apart, to shared, one after the other:
// a warp for each row.  Past the first-level cache, which does not see what other blocks write.
__device__ __forceinline__ void stage(
    float* to, const float* from, int count, int length, long long stride
) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    if (length % 4 == 0 && stride % 4 == 0 && (unsigned long long)from % 16 == 0) {
        for (int row = warp; row < count; row += WARPS)
#pragma unroll 4
            for (int i = 4 * lane; i < length; i += 128)
                copy_16_bytes(to + row * length + i, from + row * stride + i);
        copies_have_come();
    } else {
        for (int row = warp; row < count; row += WARPS)
#pragma unroll 4
            for (int i = lane; i < length; i += 32)
                to[row * length + i] = __ldcg(from + row * stride + i);
    }
}

// Wait until every one of `blocks` blocks has come here `times` times.  They all run at the same
// time: only then does nobody wait for ever.
__device__ __forceinline__ void wait_for_all(unsigned* arrived, unsigned blocks, unsigned times) {
    __syncthreads();
    if (blocks == 1) return;
    if (threadIdx.x == 0) {
        __threadfence();  // what this block wrote comes before ...
        atomicAdd(arrived, 1u);
        while ((int)(*(volatile unsigned*)arrived - times * blocks) < 0) PAUSE();  // may overflow
        __threadfence();  // ... what it reads from now on
    }
    __syncthreads();
}

__device__ __forceinline__ float sigmoid(float a) { return 0.5f * tanhf(0.5f * a) + 0.5f; }

__device__ __forceinline__ float max_over_lanes(float v) {
#pragma unroll
    for (int offset = 16; offset >= 1; offset /= 2)
        v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, offset));
    return v;
}

__device__ __forceinline__ float sum_over_lanes(float v) {
#pragma unroll
    for (int offset = 16; offset >= 1; offset /= 2) v += __shfl_xor_sync(0xffffffffu, v, offset);
    return v;
}

