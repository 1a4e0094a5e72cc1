// A recurrent net writes a text: every character in one launch, with nothing sent to the host.
//
// The blocks share out the rows of all weights: each has K hidden units of every layer, and some of
// the symbols' scores.  It keeps as many of its rows in shared memory as fit, and reads the others
// from global memory (that is, from the second-level cache if they fit there).  A character takes
// one wait for all blocks per layer, and one for the scores; then every block draws it by itself,
// all from the same numbers and so all the same.
//
// The first layer's product with its input is looked up: a symbol has one of V inputs, so W x + b
// is computed for each of them beforehand.
//
// Compiled once for each CELL (see generation.py, which says what the arrays are).  What it
// computes is defined by minigrad/generation.py.

#define RNN_TANH 0
#define RNN_RELU 1
#define LSTM 2
#define GRU 3
#define ROWS (CELL == LSTM || CELL == GRU ? 4 : 1)  // of a unit; of a GRU: r z q n

struct Part {
    int n, rows;              // its rows, and their length
    int near;                 // where they start in shared memory, as far as they fit
    const float *far, *base;  // in global memory; what to add to each product (there by symbol)
};

// The lane's share of the sum over k of row[k] x[k].
__device__ __forceinline__ float share(const float* row, const float* x, int n, int lane, bool by_4) {
    float sum = 0.0f;
    if (by_4) {
#pragma unroll 4
        for (int k = 4 * lane; k < n; k += 128) {
            const float4 a = *(const float4*)(row + k), b = *(const float4*)(x + k);
            sum += a.x * b.x + a.y * b.y + (a.z * b.z + a.w * b.w);
        }
    } else {
#pragma unroll 4
        for (int k = lane; k < n; k += 32) sum += row[k] * x[k];
    }
    return sum;
}

// A symbol in proportion to exp(score / temperature), among the top_k best if that is above 0: the
// first up to which the share of the sum exceeds `uniform`; with temperature 0 the first best.
// -1 if that cannot be said of NaN or infinite scores.  Called by a warp.  parts: to work with.
__device__ __forceinline__ int draw(
    float* scores, int V, double uniform, float temperature, double* parts, int lane
) {
    float best = -__int_as_float(0x7f800000);
    for (int v = lane; v < V; v += 32) best = fmaxf(best, scores[v]);
    best = max_over_lanes(best);
    int* found = (int*)(parts + 32);
    if (lane == 0) *found = temperature > 0.0f ? -1 : V;
    __syncwarp();
    if (temperature > 0.0f) {
        const int width = (V + 31) / 32, from = lane * width, to = min(V, from + width);
        double sum = 0.0;
        for (int v = from; v < to; v++)
            sum += scores[v] = expf((scores[v] - best) / temperature);
        parts[lane] = sum;
        __syncwarp();
        double before = 0.0, total = 0.0;
        for (int i = 0; i < 32; i++) {
            if (i == lane) before = total;
            total += parts[i];
        }
        const double target = uniform * total;
        if (before <= target && target < before + sum) {  // true for one lane, for none with NaN
            int chosen = -1;
            for (int v = from; v < to; v++)
                if (scores[v] > 0.0f) {
                    chosen = v;
                    before += scores[v];
                    if (before > target) break;
                }
            *found = chosen;
        }
    } else {
        for (int v = lane; v < V; v += 32)
            if (scores[v] == best) atomicMin(found, v);
        __syncwarp();
        if (lane == 0 && *found == V) *found = -1;
    }
    __syncwarp();
    return *found;
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) write_text(
    const float* weights, const float* base, const float* h0, const float* c0,
    const double* uniforms, float* h, float* scores, int* written, unsigned* arrived, int first,
    int length, int L, int H, int V, int K, int held, float temperature, int top_k
) {
    SHARED(memory);
    double* parts = (double*)memory;            // (32), and what was drawn
    float* state = memory + 68;                 // (L, H)
    float* near = state + (L * H + 3) / 4 * 4;  // `held` numbers: rows of this block
    float* cells = near + held;                 // (L, K)
    float* sums = cells + L * K;                // (K, ROWS)
    float* p = sums + K * ROWS;                 // (V): scores, then probabilities
    float* kept = p + V;                        // (V)
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int first_unit = blockIdx.x * K, units = min(K, H - first_unit);
    const int share_of_V = (V + gridDim.x - 1) / gridDim.x;
    const int first_score = blockIdx.x * share_of_V;
    const int last_scores = max(0, min(share_of_V, V - first_score));
    const bool by_4 = H % 4 == 0;

    // This block's rows of matrix m: a layer, or, after the last, what makes the scores.
    const auto part = [&](int m) -> Part {
        const bool last = m == L;
        const int n = m == 0 || last ? H : 2 * H, start = last ? first_score : first_unit * ROWS;
        const int before = m == 0 ? 0 : 2 * m - 1;  // columns of the matrices before it, over H
        const float* far = weights + (long long)before * ROWS * H * H + (long long)start * n;
        const long long row = m == 0 ? 0 : V + m - 1;  // of base: symbols, layers, score biases
        return {n, last ? last_scores : units * ROWS, before * ROWS * H * K, far,
                base + row * H * ROWS + start};
    };
    for (int m = 0; m <= L; m++) {
        const Part M = part(m);
        for (int r = warp; r < M.rows && M.near + (r + 1) * M.n <= held; r += WARPS)
            for (int k = lane; k < M.n; k += 32)
                near[M.near + r * M.n + k] = M.far[(long long)r * M.n + k];
    }
    for (int i = threadIdx.x; i < L * H; i += THREADS) state[i] = h0[i];
#if CELL == LSTM
    for (int i = threadIdx.x; i < L * units; i += THREADS)
        cells[i / units * K + i % units] = c0[i / units * H + first_unit + i % units];
#endif
    __syncthreads();

    int symbol = first;
    unsigned times = 0;
    for (int t = 0; t < length; t++) {
        const double uniform = uniforms ? uniforms[t] : 0.0;
        for (int m = 0; m <= L; m++) {
            const Part M = part(m);
            const float* x = state + (m == 0 ? 0 : m - 1) * H;  // h of the layer below, h' of this
            const float* b = m == 0 ? M.base + (long long)symbol * H * ROWS : M.base;
            float* results = m == L ? scores + first_score : sums;
            for (int r = warp; r < M.rows; r += WARPS) {
                float sum = lane == 0 ? b[r] : 0.0f;
                const int at = M.near + r * M.n;
                if (at + M.n <= held)
                    sum += share(near + at, x, M.n, lane, by_4);
                else
                    sum += share(M.far + (long long)r * M.n, x, M.n, lane, by_4);
                sum = sum_over_lanes(sum);
                if (lane == 0) results[r] = sum;
            }
            if (m < L) {
                __syncthreads();
                for (int u = threadIdx.x; u < units; u += THREADS) {
                    const float* a = sums + u * ROWS;
                    float h_new;
#if CELL == LSTM
                    const float c = sigmoid(a[1]) * cells[m * K + u] + sigmoid(a[0]) * tanhf(a[2]);
                    cells[m * K + u] = c;
                    h_new = sigmoid(a[3]) * tanhf(c);
#elif CELL == GRU
                    const float n = tanhf(a[3] + sigmoid(a[0]) * a[2]);
                    h_new = n + sigmoid(a[1]) * (state[m * H + first_unit + u] - n);
#elif CELL == RNN_RELU
                    h_new = a[0] < 0.0f ? 0.0f : a[0];  // NaN stays
#else
                    h_new = tanhf(a[0]);
#endif
                    h[m * H + first_unit + u] = h_new;
                }
            }
            wait_for_all(arrived, gridDim.x, ++times);
            if (m == L)
                for (int v = threadIdx.x; v < V; v += THREADS) p[v] = __ldcg(scores + v);
            else
                for (int i = threadIdx.x; i < H; i += THREADS)
                    state[m * H + i] = __ldcg(h + m * H + i);
            __syncthreads();
        }
        if (top_k > 0) {  // out with those that have as many better ones
            for (int v = threadIdx.x; v < V; v += THREADS) {
                int better = 0;
                for (int w = 0; w < V; w++) better += p[w] > p[v];
                kept[v] = better < top_k ? p[v] : -__int_as_float(0x7f800000);
            }
            __syncthreads();
        }
        if (warp == 0) {
            const int drawn =
                draw(top_k > 0 ? kept : p, V, uniform, temperature, parts, lane);
            if (blockIdx.x == 0 && lane == 0) written[t] = drawn;
        }
        __syncthreads();
        symbol = max(0, *(int*)(parts + 32));
    }
}
