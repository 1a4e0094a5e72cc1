// Softmax with cross-entropy, dropout, and the optimizers: each one pass over its data.

// --- softmax and cross-entropy: a warp for each row ---

// x (N, C) scores, t (N) classes, a (N) weights or null.  loss (N); shift (N): log sum exp x.
// A class out of range makes the loss NaN.
extern "C" __global__ void __launch_bounds__(THREADS) cross_entropy(
    const float* x, const long long* t, const float* a, float* loss, float* shift, int N, int C
) {
    const int lane = threadIdx.x % 32;
    const int row = (blockIdx.x * THREADS + threadIdx.x) / 32;
    if (row >= N) return;  // a whole warp at a time
    const float* scores = x + (long long)row * C;
    float largest = -__int_as_float(0x7f800000);
    for (int c = lane; c < C; c += 32) largest = fmaxf(largest, scores[c]);
    largest = max_over_lanes(largest);
    float sum = 0.0f;
    for (int c = lane; c < C; c += 32) sum += expf(scores[c] - largest);
    sum = sum_over_lanes(sum);
    if (lane == 0) {
        const long long target = t[row];
        const float chosen =
            target >= 0 && target < C ? scores[target] : __int_as_float(0x7fc00000);
        const float log_sum = logf(sum);
        loss[row] = (a ? a[row] : 1.0f) * (log_sum - (chosen - largest));
        shift[row] = largest + log_sum;
    }
}

// g: the gradient of each row's loss (N), or of their sum (one number, with each_row 0).  gx (N, C).
extern "C" __global__ void __launch_bounds__(THREADS) cross_entropy_backward(
    const float* x, const long long* t, const float* a, const float* shift, const float* g,
    float* gx, int N, int C, int each_row
) {
    const int lane = threadIdx.x % 32;
    const int row = (blockIdx.x * THREADS + threadIdx.x) / 32;
    if (row >= N) return;
    float scale = g[each_row ? row : 0];
    if (a) scale *= a[row];
    const long long at = (long long)row * C;
    for (int c = lane; c < C; c += 32) {
        const float p = expf(x[at + c] - shift[row]);
        gx[at + c] = scale * (p - (c == t[row] ? 1.0f : 0.0f));
    }
}

// --- dropout ---

// Philox4x32-10 (Salmon et al. 2011): four random words from a counter and a key, with no state.
struct Words { unsigned w[4]; };

__device__ __forceinline__ Words philox(unsigned c0, unsigned c1, unsigned k0, unsigned k1) {
    unsigned c2 = 0, c3 = 0;
#pragma unroll
    for (int round = 0; round < 10; round++) {
        const unsigned high0 = __umulhi(0xD2511F53u, c0), low0 = 0xD2511F53u * c0;
        const unsigned high1 = __umulhi(0xCD9E8D57u, c2), low1 = 0xCD9E8D57u * c2;
        c0 = high1 ^ c1 ^ k0, c1 = low1, c2 = high0 ^ c3 ^ k1, c3 = low0;
        k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
    return {{c0, c1, c2, c3}};
}

// y = x / keep where a word of the generator, a 32-bit number, is at least `threshold`, else 0.
// The backward pass is the same function of g: the mask is computed again, not stored.
extern "C" __global__ void __launch_bounds__(THREADS) dropout(
    const float* x, float* y, long long size, unsigned threshold, float scale, unsigned k0,
    unsigned k1
) {
    const long long quads = (size + 3) / 4, step = (long long)gridDim.x * THREADS;
    for (long long q = (long long)blockIdx.x * THREADS + threadIdx.x; q < quads; q += step) {
        const Words words = philox((unsigned)q, (unsigned)(q >> 32), k0, k1);
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (4 * q + i < size)
                y[4 * q + i] = words.w[i] >= threshold ? x[4 * q + i] * scale : 0.0f;
    }
}

// --- optimizers: all parameters in one launch ---

// A table of pointers, rows of `columns`: parameter, gradient, state ...; sizes: of each row.
// Parameters are cut into chunks of CHUNK elements; chunks (n, 2): row and number of each.
#define CHUNK 4096

#define FOR_EACH_ELEMENT(columns)                                             \
    const int row = chunks[2 * blockIdx.x], part = chunks[2 * blockIdx.x + 1]; \
    const unsigned long long* at = table + (long long)row * columns;           \
    float* x = (float*)at[0];                                                  \
    const float* gradient = (const float*)at[1];                               \
    const long long end = min(sizes[row], (part + 1ll) * CHUNK);               \
    for (long long i = (long long)part * CHUNK + threadIdx.x; i < end; i += THREADS)

// Adam as in optim/adam.py.  step = lr sqrt(1 - beta2^t) / (1 - beta1^t), epsilon = eps times the
// root; shrink = 1 - lr weight_decay of AdamW; decay: weight_decay of Adam; sign: -1 to maximize.
extern "C" __global__ void __launch_bounds__(THREADS) adam(
    const unsigned long long* table, const long long* sizes, const int* chunks, float beta1,
    float beta2, float one_less_beta1, float one_less_beta2, float step, float epsilon,
    float shrink, float decay, float sign
) {
    FOR_EACH_ELEMENT(4) {
        float* m = (float*)at[2];
        float* v = (float*)at[3];
        const float x_i = x[i] * shrink;
        const float g = sign * gradient[i] + decay * x_i;
        m[i] = beta1 * m[i] + one_less_beta1 * g;
        v[i] = beta2 * v[i] + one_less_beta2 * (g * g);
        x[i] = x_i - step * (m[i] / (sqrtf(v[i]) + epsilon));
    }
}

// Adagrad as in optim/adagrad.py; step = lr / (1 + (t - 1) lr_decay).
extern "C" __global__ void __launch_bounds__(THREADS) adagrad(
    const unsigned long long* table, const long long* sizes, const int* chunks, float step,
    float epsilon, float decay, float sign
) {
    FOR_EACH_ELEMENT(3) {
        float* sum = (float*)at[2];
        const float g = sign * gradient[i] + decay * x[i];
        sum[i] += g * g;
        x[i] -= step * (g / (sqrtf(sum[i]) + epsilon));
    }
}
