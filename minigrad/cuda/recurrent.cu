// One layer of an RNN, LSTM or GRU over a whole sequence, forward and backward, in one launch each.
//
// The blocks of the grid share out the hidden units, and each keeps its units' recurrent weights in
// shared memory from the first step to the last (Persistent RNNs: Diamos et al. 2016).  In a step
// every block reads the whole state of the step before, and computes its own units' part of the
// new one; then all blocks wait for each other, once.  All of the grid must therefore run at the
// same time: it is launched cooperatively, with no more blocks than there are multiprocessors.
//
// A warp computes the sums for a tile: all gates of one unit (backward: UNITS units), times COLUMNS
// sequences of the batch.  Its lanes share out the terms of the sums.
//
// Compiled once for each CELL and COLUMNS (see recurrent.py, which says what the arrays are).
// What it computes is defined by the op's twin; the letters are those of the op.

#define RNN_TANH 0
#define RNN_RELU 1
#define LSTM 2
#define GRU 3

#if CELL == LSTM
#define GATES 4
#elif CELL == GRU
#define GATES 3
#else
#define GATES 1
#endif
#define BLOCKS_SAVED (GATES == 3 ? 4 : GATES)  // of a GRU: r z q n
#define UNITS 4
#define WARPS (THREADS / 32)

#ifndef SHIM  // under a C++ compiler, shim.h stands in for CUDA: tests/cuda
#define SHARED(name) extern __shared__ float name[]
#define PAUSE()
#endif

// The sums over the lanes of N values: lane l gets that of value l % N. N: a power of 2, up to 32.
template <int N, int OFFSET = 16>
__device__ __forceinline__ float sum_over_lanes(float (&v)[N], int lane) {
    if constexpr (OFFSET >= N) {
#pragma unroll
        for (int i = 0; i < N; i++) v[i] += __shfl_xor_sync(0xffffffffu, v[i], OFFSET);
    } else {  // each lane goes on with half of the values, and gives the other half away
        const bool upper = lane & OFFSET;
#pragma unroll
        for (int i = 0; i < OFFSET; i++) {
            const float kept = upper ? v[i + OFFSET] : v[i];
            const float given = upper ? v[i] : v[i + OFFSET];
            v[i] = kept + __shfl_xor_sync(0xffffffffu, given, OFFSET);
        }
    }
    if constexpr (OFFSET > 1) return sum_over_lanes<N, OFFSET / 2>(v, lane);
    return v[0];
}

// sum_k rows[r][k] columns[c][k] for R rows and COLUMNS columns: lane r * COLUMNS + c has it.
// Rows and columns after the last are computed from the last, and never looked at.
template <int R, int N>
__device__ __forceinline__ float tile(
    const float* rows, int last_row, const float* columns, int last_column, int length, int lane
) {
    float sums[N];
#pragma unroll
    for (int i = 0; i < N; i++) sums[i] = 0.0f;
    for (int k = lane; k < length; k += 32) {
        float row[R], column[COLUMNS];
#pragma unroll
        for (int r = 0; r < R; r++) row[r] = rows[(r < last_row ? r : last_row) * length + k];
#pragma unroll
        for (int c = 0; c < COLUMNS; c++)
            column[c] = columns[(c < last_column ? c : last_column) * length + k];
#pragma unroll
        for (int r = 0; r < R; r++)
#pragma unroll
            for (int c = 0; c < COLUMNS; c++) sums[r * COLUMNS + c] += row[r] * column[c];
    }
    return sum_over_lanes<N>(sums, lane);
}

// Wait until every block has come here `times` times.
__device__ __forceinline__ void wait_for_all(unsigned* arrived, unsigned times) {
    __syncthreads();
    if (gridDim.x == 1) return;
    if (threadIdx.x == 0) {
        __threadfence();  // what this block wrote comes before ...
        atomicAdd(arrived, 1u);
        while (*(volatile unsigned*)arrived < times * gridDim.x) PAUSE();
        __threadfence();  // ... what it reads from now on
    }
    __syncthreads();
}

// From global memory to shared; past the first-level cache, which does not see other blocks' writes.
__device__ __forceinline__ void stage(
    float* to, const float* from, int count, int length, int stride
) {
    for (int i = threadIdx.x; i < count * length; i += THREADS)
        to[i] = __ldcg(from + (long long)(i / length) * stride + i % length);
}

__device__ __forceinline__ float sigmoid(float a) { return 0.5f * tanhf(0.5f * a) + 0.5f; }

// pre (T, B, GATES, H): W x + b, all that does not depend on the state; of a GRU without b_hn, which
// is bn (H) or null.  states (T + 1, B, H): the first is given.  cells: likewise, of an LSTM.
// gates (T, B, BLOCKS_SAVED, H), or null: what backward needs.  K: units of a block; room: how many
// sequences' states fit into shared memory.
extern "C" __global__ void __launch_bounds__(THREADS, 1) forward(
    const float* pre, const float* U, const float* bn, float* states, float* cells, float* gates,
    unsigned* arrived, int T, int B, int H, int K, int room
) {
    SHARED(memory);
    constexpr int N = (GATES == 3 ? 4 : GATES) * COLUMNS;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int first = blockIdx.x * K, units = min(K, H - first);
    float* weights = memory;                       // (K, GATES, H)
    float* h = weights + K * GATES * H;            // (room, H)
    float* sums = h + room * H + warp * 32;        // one for each lane

    for (int i = threadIdx.x; i < units * GATES * H; i += THREADS) {
        const int row = i / H;
        weights[i] = U[((long long)(row % GATES) * H + first + row / GATES) * H + i % H];
    }
    for (int t = 0; t < T; t++) {
        for (int b0 = 0; b0 < B; b0 += room) {
            const int count = min(room, B - b0);
            __syncthreads();  // all have done with the last ones
            stage(h, states + ((long long)t * B + b0) * H, count, H, H);
            __syncthreads();
            const int tiles = units * ((count + COLUMNS - 1) / COLUMNS);
            for (int i = warp; i < tiles; i += WARPS) {
                const int u = i % units, c0 = i / units * COLUMNS;
                sums[lane] = tile<GATES, N>(
                    weights + u * GATES * H, GATES - 1, h + c0 * H, count - 1 - c0, H, lane);
                __syncwarp();
                if (lane < COLUMNS && c0 + lane < count) {
                    const int j = first + u;
                    const long long row = (long long)t * B + b0 + c0 + lane;
                    const float* a = pre + row * GATES * H + j;
                    const float* Uh = sums + lane;
                    float* kept = gates ? gates + row * BLOCKS_SAVED * H + j : nullptr;
                    float h_new;
#if CELL == LSTM
                    const float i_ = sigmoid(a[0] + Uh[0]);
                    const float f = sigmoid(a[H] + Uh[COLUMNS]);
                    const float g = tanhf(a[2 * H] + Uh[2 * COLUMNS]);
                    const float o = sigmoid(a[3 * H] + Uh[3 * COLUMNS]);
                    const float c = f * cells[row * H + j] + i_ * g;
                    cells[(row + B) * H + j] = c;
                    h_new = o * tanhf(c);
                    if (kept) kept[0] = i_, kept[H] = f, kept[2 * H] = g, kept[3 * H] = o;
#elif CELL == GRU
                    const float r = sigmoid(a[0] + Uh[0]);
                    const float z = sigmoid(a[H] + Uh[COLUMNS]);
                    const float q = Uh[2 * COLUMNS] + (bn ? bn[j] : 0.0f);
                    const float n = tanhf(a[2 * H] + r * q);
                    h_new = n + z * (h[(c0 + lane) * H + j] - n);
                    if (kept) kept[0] = r, kept[H] = z, kept[2 * H] = q, kept[3 * H] = n;
#elif CELL == RNN_RELU
                    h_new = a[0] + Uh[0];
                    h_new = h_new < 0.0f ? 0.0f : h_new;  // NaN stays
#else
                    h_new = tanhf(a[0] + Uh[0]);
#endif
                    states[(row + B) * H + j] = h_new;
                }
                __syncwarp();  // sums may be written again
            }
        }
        wait_for_all(arrived, t + 1);
    }
}

// gy (T, B, H) or null: the gradient of every state.  dh, dc (B, H): those of the last state (and
// cell) come in, those of the first go out.  da (T, B, BLOCKS_SAVED, H): of what the nonlinearities
// were applied to; of a GRU in the order r z q n.
extern "C" __global__ void __launch_bounds__(THREADS, 1) backward(
    const float* gy, const float* U, const float* states, const float* cells, const float* gates,
    float* dh, float* dc, float* da, unsigned* arrived, int T, int B, int H, int K, int room
) {
    SHARED(memory);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int first = blockIdx.x * K, units = min(K, H - first);
    const int length = GATES * H;
    float* weights = memory;                  // (K, GATES H): columns of U
    float* d = weights + K * length;          // (room, GATES H)

    for (int i = threadIdx.x; i < units * length; i += THREADS)
        weights[i] = U[(long long)(i % length) * H + first + i / length];

    for (int t = T - 1; t >= 0; t--) {
        // We are at timestep t; dh and dc hold what comes from the steps after it.
        __syncthreads();
        for (int i = threadIdx.x; i < B * units; i += THREADS) {
            const int b = i / units, j = first + i % units;
            const long long row = (long long)t * B + b, at = (long long)b * H + j;
            const float dh_t = dh[at] + (gy ? gy[row * H + j] : 0.0f);
            float* out = da + row * BLOCKS_SAVED * H + j;
#if CELL == LSTM
            const float* saved = gates + row * 4 * H + j;
            const float i_ = saved[0], f = saved[H], g = saved[2 * H], o = saved[3 * H];
            const float m = tanhf(cells[(row + B) * H + j]);
            const float dc_t = dc[at] + dh_t * o * (1.0f - m * m);  // h = o tanh(c)
            out[0] = dc_t * g * (i_ - i_ * i_);                     // c = f c' + i g
            out[H] = dc_t * cells[row * H + j] * (f - f * f);
            out[2 * H] = dc_t * i_ * (1.0f - g * g);
            out[3 * H] = dh_t * m * (o - o * o);
            dc[at] = dc_t * f;
            dh[at] = 0.0f;
#elif CELL == GRU
            const float* saved = gates + row * 4 * H + j;
            const float r = saved[0], z = saved[H], q = saved[2 * H], n = saved[3 * H];
            const float dn = dh_t * (1.0f - z) * (1.0f - n * n);  // h = (1 - z) n + z h'
            out[0] = dn * q * (r - r * r);                        // a_n = W_n x + b_in + r q
            out[H] = dh_t * (states[row * H + j] - n) * (z - z * z);
            out[2 * H] = dn * r;
            out[3 * H] = dn;
            dh[at] = dh_t * z;
#else
            const float y = states[(row + B) * H + j];
            out[0] = CELL == RNN_RELU ? (y > 0.0f ? dh_t : 0.0f) : dh_t * (1.0f - y * y);
            dh[at] = 0.0f;
#endif
        }
        wait_for_all(arrived, T - t);
        for (int b0 = 0; b0 < B; b0 += room) {  // a = ... + U h': to h'
            const int count = min(room, B - b0);
            __syncthreads();
            stage(d, da + ((long long)t * B + b0) * BLOCKS_SAVED * H, count, length, BLOCKS_SAVED * H);
            __syncthreads();
            const int groups = (units + UNITS - 1) / UNITS;
            const int tiles = groups * ((count + COLUMNS - 1) / COLUMNS);
            for (int i = warp; i < tiles; i += WARPS) {
                const int u0 = i % groups * UNITS, c0 = i / groups * COLUMNS;
                const float sum = tile<UNITS, UNITS * COLUMNS>(
                    weights + u0 * length, units - 1 - u0, d + c0 * length, count - 1 - c0, length,
                    lane);
                const int u = u0 + lane / COLUMNS, c = c0 + lane % COLUMNS;
                if (lane < UNITS * COLUMNS && u < units && c < count)
                    dh[(long long)(b0 + c) * H + first + u] += sum;
            }
        }
    }
}
