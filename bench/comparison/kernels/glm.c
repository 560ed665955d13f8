/* Generalised linear models on rows of D features: LINEAR, LOGISTIC or POISSON.

   A row is kept in registers lane by feature; the sums of LANES rows are merged into
   one vector, lane by row, for the loss. Data are prefetched, a tile is read twice
   from L1. */

#include "kernel.h"

enum { TILE = 64, FULL = D / LANES, REST = D % LANES, PIECES = FULL + (REST > 0) };

static inline vec piece(const real *x, int k) {
    if (k < FULL) return load(x + k * LANES);
#if defined __AVX512F__ && defined SINGLE
    return (vec)_mm512_maskz_loadu_ps((1 << REST) - 1, x + k * LANES);
#elif defined __AVX512F__
    return (vec)_mm512_maskz_loadu_pd((1 << REST) - 1, x + k * LANES);
#else
    vec v = {0};
    memcpy(&v, x + k * LANES, REST * sizeof(real));
    return v;
#endif
}

/* Two vectors of segments of partial sums into one of segments half as long. */
static inline vec fold(vec a, vec b, int segment) {
    ivec low, high;
    for (int k = 0; k < LANES; k++) {
        low[k] = k / (segment / 2) * segment + k % (segment / 2);
        high[k] = low[k] + segment / 2;
    }
    return __builtin_shuffle(a, b, low) + __builtin_shuffle(a, b, high);
}

static inline vec products(const real *x, const vec *w) {
    vec v[LANES];
    UNROLL for (int r = 0; r < LANES; r++) {
        v[r] = piece(x + r * D, 0) * w[0];
        UNROLL for (int k = 1; k < PIECES; k++) v[r] += piece(x + r * D, k) * w[k];
    }
    UNROLL for (int r = 0; r < LANES / 2; r++) v[r] = fold(v[2 * r], v[2 * r + 1], LANES);
    UNROLL for (int r = 0; r < LANES / 4; r++)
        v[r] = fold(v[2 * r], v[2 * r + 1], LANES / 2);
    UNROLL for (int r = 0; r < LANES / 8; r++)
        v[r] = fold(v[2 * r], v[2 * r + 1], LANES / 4);
#ifdef SINGLE
    v[0] = fold(v[0], v[1], 2);
#endif
    return v[0];
}

/* The loss of some rows; z becomes its derivative. */
static inline real losses(real *restrict z, const real *restrict y, int rows) {
    real sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int i = 0; i < rows; i++) {
#if defined LINEAR
        real r = z[i] - y[i];
        sum += r * r;
        z[i] = 2 * r;
#elif defined LOGISTIC
        real u = -y[i] * z[i], e = exp_of_negative(u < 0 ? u : -u);
        sum += (u > 0 ? u : 0) + LOG1P(e);
        z[i] = -y[i] * (u > 0 ? 1 : e) / (1 + e);
#else
        real e = EXP(z[i]);
        sum += e - y[i] * z[i];
        z[i] = e - y[i];
#endif
    }
    return sum;
}

static void flush(double *sums, vec *g) {
    for (int k = 0; k < D; k++) sums[k] += g[k / LANES][k % LANES];
    memset(g, 0, PIECES * sizeof(vec));
}

static void rows_of(range own, const real *X, const real *y, const vec *w, real b,
                    double *sums) {
    vec g[PIECES] = {{0}};
    long flushed = own.low;
    for (long i = own.low; i < own.high; i += TILE) {
        int rows = least(TILE, own.high - i), whole = rows / LANES * LANES;
        const real *x = X + i * D;
        real z[TILE] ALIGNED;
        for (int r = 0; r < whole; r += LANES) {
            for (int k = 0; k < LANES * D; k += 64 / sizeof(real))
                __builtin_prefetch(x + r * D + k + 8192 / sizeof(real));
            store(z + r, products(x + r * D, w) + b);
        }
        for (int r = whole; r < rows; r++) {
            vec v = piece(x + r * D, 0) * w[0];
            for (int k = 1; k < PIECES; k++) v += piece(x + r * D, k) * w[k];
            z[r] = total(v) + b;
        }
        sums[D + 1] += losses(z, y + i, rows);
        real shift = 0;
        for (int r = 0; r < rows; r++) shift += z[r];
        sums[D] += shift;
        for (int r = 0; r < rows; r++)
            UNROLL for (int k = 0; k < PIECES; k++)
                g[k] += splat(z[r]) * piece(x + r * D, k);
        if (i - flushed >= 4096) flush(sums, g), flushed = i;
    }
    flush(sums, g);
}

double evaluate(const long *lengths, void *const *in, void *const *out, int threads) {
    const real *weights = in[0], b = *(const real *)in[1];
    long n = lengths[2];
    vec w[PIECES] = {{0}};
    for (int k = 0; k < D; k++) w[k / LANES][k % LANES] = weights[k];
    double sums[D + 2] = {0};
#pragma omp parallel num_threads(threads)
    {
        unsigned state = flush_denormals();
        double own[D + 2] = {0};
        rows_of(share(n, TILE), in[2], in[3], w, b, own);
        restore(state);
#pragma omp critical
        add_all(sums, own, D + 2);
    }
    give(out[0], sums, D, 1.0 / n);
    give(out[1], sums + D, 1, 1.0 / n);
    return sums[D + 1] / n;
}
