// Enough of CUDA to run a kernel on one processor: its threads are fibers that take turns, and
// give way only where they wait for each other.  In which order they come is drawn anew for each
// round, in which some warps, and some blocks, do not come at all: whatever relies on an order that
// no barrier makes goes wrong sooner or later.  Included before a .cu file by tests/cuda.
#pragma once
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <vector>

#define SHIM
#define __device__
#define __global__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __restrict__
#define __shared__ static  // a static array is one for all blocks: the kernels use none

struct Dim { unsigned x, y = 1, z = 1; };
static Dim threadIdx{}, blockIdx{}, blockDim{}, gridDim{};

namespace shim {
struct Fiber {
    ucontext_t context;
    std::vector<char> stack = std::vector<char>(64 * 1024);
    unsigned block, thread;
    bool done = false;
};
struct Barrier {  // of a block or of a warp: opens when all its fibers have come
    unsigned size = 0, waiting = 0, generation = 0;
};
static ucontext_t scheduler;
static std::vector<Fiber> fibers;
static Fiber* current;
static std::vector<Barrier> blocks, warps;
static std::vector<float> exchanged;                // one for each thread
static std::vector<std::vector<float>> memories;    // the shared memory of each block
static std::function<void()> kernel;
static std::mt19937 random;

inline void give_way() { swapcontext(&current->context, &scheduler); }

inline void wait(Barrier& barrier) {
    const unsigned now = barrier.generation;
    if (++barrier.waiting == barrier.size) {
        barrier.waiting = 0;
        barrier.generation++;
        return;
    }
    while (barrier.generation == now) give_way();
}

inline Barrier& warp() { return warps[(blockIdx.x * blockDim.x + threadIdx.x) / 32]; }

inline void enter() {
    kernel();
    current->done = true;
    give_way();
}

// Run `body` as a grid. Shared memory is filled with NaN: it must not be read before it is written.
inline void launch(unsigned grid, unsigned block, unsigned shared_bytes, std::function<void()> body) {
    gridDim = {grid}, blockDim = {block};
    kernel = body;
    blocks.assign(grid, {block});
    warps.assign(grid * block / 32, {32});
    exchanged.assign(grid * block, 0.0f);
    memories.assign(grid, std::vector<float>(shared_bytes / 4, NAN));
    fibers = std::vector<Fiber>(grid * block);
    for (unsigned i = 0; i < fibers.size(); i++) {
        Fiber& f = fibers[i];
        f.block = i / block, f.thread = i % block;
        getcontext(&f.context);
        f.context.uc_stack.ss_sp = f.stack.data();
        f.context.uc_stack.ss_size = f.stack.size();
        f.context.uc_link = nullptr;
        makecontext(&f.context, enter, 0);
    }
    std::vector<Fiber*> order;
    for (Fiber& f : fibers) order.push_back(&f);
    for (bool running = true; running;) {
        running = false;
        std::shuffle(order.begin(), order.end(), random);
        const unsigned chance = random();
        for (Fiber* f : order) {
            if (f->done) continue;
            running = true;
            const unsigned warp = (f->block * block + f->thread) / 32;
            if (chance >> (f->block % 8) & 1 && chance >> 8 >> (warp % 16) & 1) continue;
            current = f, blockIdx = {f->block}, threadIdx = {f->thread};
            swapcontext(&scheduler, &f->context);
        }
    }
}
}  // namespace shim

// A fiber that gives way comes back with its own indices: the scheduler sets them.
inline void __syncthreads() { shim::wait(shim::blocks[blockIdx.x]); }
inline void __syncwarp() { shim::wait(shim::warp()); }
inline void __threadfence() {}
inline unsigned atomicAdd(unsigned* at, unsigned n) { const unsigned old = *at; *at += n; return old; }
inline float atomicAdd(float* at, float n) { const float old = *at; *at += n; return old; }
inline float __ldcg(const float* p) { return *p; }
inline float __shfl_xor_sync(unsigned, float value, int mask) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    shim::exchanged[i] = value;
    shim::wait(shim::warp());
    const float other = shim::exchanged[i ^ mask];
    shim::wait(shim::warp());
    return other;
}
inline unsigned __umulhi(unsigned a, unsigned b) { return (uint64_t)a * b >> 32; }
inline int min(int a, int b) { return a < b ? a : b; }
inline long long min(long long a, long long b) { return a < b ? a : b; }
inline float __int_as_float(int i) { float f; memcpy(&f, &i, 4); return f; }
inline int atomicMin(int* at, int n) { const int old = *at; if (n < old) *at = n; return old; }
inline int max(int a, int b) { return a > b ? a : b; }
struct alignas(16) float4 { float x, y, z, w; };
inline void copy_16_bytes(float* to, const float* from) {
    if ((uintptr_t)to % 16 || (uintptr_t)from % 16) abort();
    memcpy(to, from, 16);
}
inline void copies_have_come() {}
#define SHARED(name) float* name = shim::memories[blockIdx.x].data()
#define PAUSE() shim::give_way()
