/* Gaussian mixture with diagonal covariances: alpha (K,), mu (K, D), q (K, D); x (n, D).

   Tiles of rows, transposed: a vector is LANES rows. */

#include "kernel.h"

enum { K = 25, D = 10, TILE = 128, SUMS = K * (1 + 2 * D) + 1 };

typedef struct {
    vec p[K], first[K][D], second[K][D]; /* sums of p, p*(x-mu), p*(x-mu)**2 */
    double loss;
} sums_t;

static void scores(const real (*x)[TILE], const real *mu, const real *weight,
                   real constant, real *restrict s) {
    for (int i = 0; i < TILE; i += LANES) {
        vec sum = splat(constant);
        UNROLL for (int d = 0; d < D; d++) {
            vec t = *(vec *)(x[d] + i) - mu[d];
            sum -= t * t * weight[d];
        }
        *(vec *)(s + i) = sum;
    }
}

static void moments(const real (*x)[TILE], const real *mu, const real *p, vec *sum,
                    vec *restrict first, vec *restrict second) {
    vec p0 = {0}, p1[D] = {{0}}, p2[D] = {{0}};
    for (int i = 0; i < TILE; i += LANES) {
        vec w = *(vec *)(p + i);
        p0 += w;
        UNROLL for (int d = 0; d < D; d++) {
            vec t = *(vec *)(x[d] + i) - mu[d], wt = w * t;
            p1[d] += wt;
            p2[d] += wt * t;
        }
    }
    *sum += p0;
    for (int d = 0; d < D; d++) first[d] += p1[d], second[d] += p2[d];
}

static void tile_of(const real *X, int rows, const real *constant, const real *mu,
                    const real *weight, sums_t *sums) {
    real x[D][TILE] ALIGNED, s[K][TILE] ALIGNED, most[TILE] ALIGNED, z[TILE] ALIGNED;
    for (int i = 0; i < TILE; i++)
        for (int d = 0; d < D; d++) x[d][i] = i < rows ? X[i * D + d] : 0;
    for (int i = 0; i < TILE; i++) most[i] = -INFINITY, z[i] = 0;
    for (int k = 0; k < K; k++) {
        scores(x, mu + k * D, weight + k * D, constant[k], s[k]);
        for (int i = 0; i < TILE; i++) most[i] = most[i] < s[k][i] ? s[k][i] : most[i];
    }
    for (int k = 0; k < K; k++) {
#pragma omp simd
        for (int i = 0; i < TILE; i++) {
            s[k][i] = exp_of_negative(s[k][i] - most[i]);
            z[i] += s[k][i];
        }
    }
    real loss = 0;
#pragma omp simd reduction(+ : loss)
    for (int i = 0; i < rows; i++) loss += LOG(z[i]) + most[i];
    sums->loss += loss;
    for (int i = 0; i < TILE; i++) z[i] = i < rows ? 1 / z[i] : 0;
    for (int k = 0; k < K; k++) {
        for (int i = 0; i < TILE; i++) s[k][i] *= z[i];
        moments(x, mu + k * D, s[k], sums->p + k, sums->first[k], sums->second[k]);
    }
}

double evaluate(const long *lengths, void *const *in, void *const *out, int threads) {
    const real *alpha = in[0], *mu = in[1], *q = in[2], *X = in[3];
    long n = lengths[3];
    real constant[K], weight[K * D];
    double most = -INFINITY, z = 0;
    for (int k = 0; k < K; k++) {
        constant[k] = alpha[k];
        for (int d = 0; d < D; d++) {
            constant[k] += q[k * D + d];
            weight[k * D + d] = (real)0.5 * EXP(2 * q[k * D + d]);
        }
        most = fmax(most, alpha[k]);
    }
    for (int k = 0; k < K; k++) z += exp(alpha[k] - most);
    double sums[SUMS] = {0};
#pragma omp parallel num_threads(threads)
    {
        unsigned state = flush_denormals();
        static _Thread_local sums_t own;
        memset(&own, 0, sizeof own);
        range r = share(n, TILE);
        for (long i = r.low; i < r.high; i += TILE)
            tile_of(X + i * D, least(TILE, r.high - i), constant, mu, weight, &own);
        restore(state);
#pragma omp critical
        {
            for (int k = 0; k < K; k++) {
                sums[k] += total(own.p[k]);
                for (int d = 0; d < D; d++) {
                    sums[K + k * D + d] += total(own.first[k][d]);
                    sums[K + K * D + k * D + d] += total(own.second[k][d]);
                }
            }
            sums[SUMS - 1] += own.loss;
        }
    }
    for (int k = 0; k < K; k++) {
        for (int d = 0; d < D; d++) {
            double twice = 2 * weight[k * D + d];
            sums[K + k * D + d] *= twice;
            sums[K + K * D + k * D + d] = sums[k] - twice * sums[K + K * D + k * D + d];
        }
    }
    for (int k = 0; k < K; k++) sums[k] -= n * exp(alpha[k] - most) / z;
    give(out[0], sums, K, -1);
    give(out[1], sums + K, K * D, -1);
    give(out[2], sums + K + K * D, K * D, -1);
    return n * (most + log(z)) - sums[SUMS - 1];
}
