// One layer of an RNN, LSTM or GRU over a whole sequence, forward and backward, in one launch each.
//
// The blocks of the grid share out the hidden units, and each keeps its units' recurrent weights in
// shared memory from the first step to the last (Persistent RNNs: Diamos et al. 2016).  In a step
// every block reads the whole state of the step before, and computes its own units' part of the
// new one; then all blocks wait for each other, once.  All of the grid must therefore run at the
// same time: it is launched cooperatively, with no more blocks than there are multiprocessors.
// Sequences never meet: the blocks are in groups, and each group has some of the sequences and all
// units.  What a block reads in a step, and how many it waits for, shrinks with their number.
//
// A warp computes the sums for a tile: all gates of one unit (backward, and where there is only one
// gate: UNITS units), times COLUMNS sequences.  Its lanes share out the terms of the sums.
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
#define UNITS 4   // of a tile, where it is not one
#define APART 32  // counters between those of two groups
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

// Which sequences and units a block has: the blocks are in groups of equal size.
struct Share { int group, blocks, b_first, b_end, first, units; };

__device__ __forceinline__ Share own_share(int B, int H, int groups, int K) {
    const int blocks = gridDim.x / groups, group = blockIdx.x / blocks;
    const int sequences = (B + groups - 1) / groups, first = blockIdx.x % blocks * K;
    return {group, blocks, group * sequences, min(B, (group + 1) * sequences), first, min(K, H - first)};
}

// pre (T, B, GATES, H): W x.  U (GATES H, H).  b_ih, b_hh (GATES H), h0, c0 (B, H), or null.
// running (T): how many sequences have not ended at each step, or null.
// states, cells (T + 1, B, H): the first are the initial ones.  gates (T, B, BLOCKS_SAVED, H), or
// null: what backward needs.  hT, cT (B, H): the last ones.  Cells are those of an LSTM.
// K: units of a block; room: how many sequences' states fit into shared memory.
extern "C" __global__ void __launch_bounds__(THREADS, 1) forward(
    const float* pre, const float* U, const float* b_ih, const float* b_hh, const float* h0,
    const float* c0, const int* running, float* states, float* cells, float* gates, float* hT,
    float* cT, unsigned* arrived, int T, int B, int H, int groups, int K, int room
) {
    SHARED(memory);
    constexpr int TILE = GATES == 1 ? UNITS : 1;   // units of a tile
    constexpr int N = 4 * COLUMNS;                 // sums of a tile; of a GRU 3 in 4 are used
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const auto [group, blocks, b_first, b_end, first, units] = own_share(B, H, groups, K);
    float* weights = memory;                       // (K, GATES, H)
    float* h = weights + K * GATES * H;            // (room, H)
    float* sums = h + room * H + warp * 32;        // one for each lane

    for (int i = threadIdx.x; i < units * GATES * H; i += THREADS) {
        const int row = i / H;
        weights[i] = U[((long long)(row % GATES) * H + first + row / GATES) * H + i % H];
    }
    for (int i = threadIdx.x; i < (b_end - b_first) * units; i += THREADS) {
        const long long at = (long long)(b_first + i / units) * H + first + i % units;
        states[at] = h0 ? h0[at] : 0.0f;
#if CELL == LSTM
        cells[at] = c0 ? c0[at] : 0.0f;
#endif
    }
    for (int t = 0; t < T; t++) {
        const int alive = running ? running[t] : B;
        for (int b0 = b_first; b0 < b_end; b0 += room) {
            const int count = min(room, b_end - b0);
            __syncthreads();  // all have done with the last ones
            if (t > 0)
                stage(h, states + ((long long)t * B + b0) * H, count, H, H);
            else if (h0)
                stage(h, h0 + (long long)b0 * H, count, H, H);
            else
                for (int i = threadIdx.x; i < count * H; i += THREADS) h[i] = 0.0f;
            __syncthreads();
            const int parts = (units + TILE - 1) / TILE;
            const int tiles = parts * ((count + COLUMNS - 1) / COLUMNS);
            for (int i = warp; i < tiles; i += WARPS) {
                const int u0 = i % parts * TILE, c0 = i / parts * COLUMNS;
                const int u = u0 + lane / COLUMNS, c = c0 + lane % COLUMNS, j = first + u;
                const long long row = (long long)t * B + b0 + c;
                const bool mine = lane < TILE * COLUMNS && u < units && c < count;
                const bool runs = b0 + c < alive;
                float a[GATES];  // asked for before the sums are computed
#pragma unroll
                for (int g = 0; g < GATES; g++)
                    a[g] = !mine || !runs ? 0.0f
                         : pre[(row * GATES + g) * H + j] + (b_ih ? b_ih[g * H + j] : 0.0f);
#if CELL == LSTM
                const float c_old = mine ? cells[row * H + j] : 0.0f;
                float c_new = c_old;
#endif
                if (b0 + c0 < alive) {
                    sums[lane] = tile<TILE * GATES, N>(
                        weights + u0 * GATES * H, min(TILE, units - u0) * GATES - 1, h + c0 * H,
                        count - 1 - c0, H, lane);
                    __syncwarp();
                }
                if (mine) {
                    float h_new = h[c * H + j];
                    if (runs) {
                        float Uh[GATES];
#pragma unroll
                        for (int g = 0; g < GATES; g++)
                            Uh[g] = sums[lane + g * COLUMNS] + (b_hh ? b_hh[g * H + j] : 0.0f);
#if BLOCKS_SAVED == 4
                        float* kept = gates ? gates + row * 4 * H + j : nullptr;
#endif
#if CELL == LSTM
                        const float i_ = sigmoid(a[0] + Uh[0]), f = sigmoid(a[1] + Uh[1]);
                        const float g = tanhf(a[2] + Uh[2]), o = sigmoid(a[3] + Uh[3]);
                        c_new = f * c_old + i_ * g;
                        h_new = o * tanhf(c_new);
                        if (kept) kept[0] = i_, kept[H] = f, kept[2 * H] = g, kept[3 * H] = o;
#elif CELL == GRU
                        const float r = sigmoid(a[0] + Uh[0]), z = sigmoid(a[1] + Uh[1]);
                        const float q = Uh[2], n = tanhf(a[2] + r * q);
                        h_new = n + z * (h_new - n);
                        if (kept) kept[0] = r, kept[H] = z, kept[2 * H] = q, kept[3 * H] = n;
#elif CELL == RNN_RELU
                        h_new = a[0] + Uh[0];
                        h_new = h_new < 0.0f ? 0.0f : h_new;  // NaN stays
#else
                        h_new = tanhf(a[0] + Uh[0]);
#endif
                    }
                    states[(row + B) * H + j] = h_new;
                    if (t == T - 1) hT[(long long)(b0 + c) * H + j] = h_new;
#if CELL == LSTM
                    cells[(row + B) * H + j] = c_new;
                    if (t == T - 1) cT[(long long)(b0 + c) * H + j] = c_new;
#endif
                }
                __syncwarp();  // sums may be written again
            }
        }
        if (t < T - 1) wait_for_all(arrived + APART * group, blocks, t + 1);
    }
}

// gy (T, B, H): the gradient of every state, gh, gc (B, H): of the last ones; each may be null.
// dh, dc (B, H): of the first ones.  da (T, B, BLOCKS_SAVED, H): of what the nonlinearities were
// applied to; of a GRU in the order r z q n.  The others as in forward.
extern "C" __global__ void __launch_bounds__(THREADS, 1) backward(
    const float* gy, const float* gh, const float* gc, const float* U, const int* running,
    const float* states, const float* cells, const float* gates, float* dh, float* dc, float* da,
    unsigned* arrived, int T, int B, int H, int groups, int K, int room
) {
    SHARED(memory);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const auto [group, blocks, b_first, b_end, first, units] = own_share(B, H, groups, K);
    const int length = GATES * H, own = (b_end - b_first) * units;
    float* weights = memory;                  // (K, GATES H): columns of U
    float* d = weights + K * length;          // (room, GATES H)

    for (int i = threadIdx.x; i < units * length; i += THREADS)
        weights[i] = U[(long long)(i % length) * H + first + i / length];
    for (int i = threadIdx.x; i < own; i += THREADS) {
        const long long at = (long long)(b_first + i / units) * H + first + i % units;
        dh[at] = gh ? gh[at] : 0.0f;
#if CELL == LSTM
        dc[at] = gc ? gc[at] : 0.0f;
#endif
    }
    for (int t = T - 1; t >= 0; t--) {
        // We are at timestep t; dh and dc hold what comes from the steps after it.
        const int alive = running ? running[t] : B;
        __syncthreads();
        for (int i = threadIdx.x; i < own; i += THREADS) {
            const int b = b_first + i / units, j = first + i % units;
            const long long row = (long long)t * B + b, at = (long long)b * H + j;
            const float dh_t = dh[at] + (gy ? gy[row * H + j] : 0.0f);
            float* out = da + row * BLOCKS_SAVED * H + j;
            if (b >= alive) {  // it waits for the last step of its sequence
                dh[at] = dh_t;
                for (int g = 0; g < BLOCKS_SAVED; g++) out[g * H] = 0.0f;
                continue;
            }
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
        wait_for_all(arrived + APART * group, blocks, T - t);
        for (int b0 = b_first; b0 < b_end; b0 += room) {  // a = ... + U h': to h'
            const int count = min(room, b_end - b0);
            __syncthreads();
            stage(d, da + ((long long)t * B + b0) * BLOCKS_SAVED * H, count, length, BLOCKS_SAVED * H);
            __syncthreads();
            const int parts = (units + UNITS - 1) / UNITS;
            const int tiles = parts * ((count + COLUMNS - 1) / COLUMNS);
            for (int i = warp; i < tiles; i += WARPS) {
                const int u0 = i % parts * UNITS, c0 = i / parts * COLUMNS;
                if (b0 + c0 >= alive) continue;  // nothing comes from sequences that have ended
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
