/* Mean square of five Gaussian peaks against data: A, m, s (5,); x, y (n,). */

#include "kernel.h"

enum { TILE = 256, PEAKS = 5, SUMS = 3 * PEAKS + 1 };

static void tile_of(const real *restrict x, const real *restrict y, int rows,
                    const real *A, const real *m, const real *inverse, double *sums) {
    real e[PEAKS][TILE] ALIGNED, r[TILE] ALIGNED;
    for (int i = 0; i < rows; i++) r[i] = -y[i];
    for (int k = 0; k < PEAKS; k++) {
#pragma omp simd
        for (int i = 0; i < rows; i++) {
            real u = (x[i] - m[k]) * inverse[k];
            e[k][i] = exp_of_negative((real)-0.5 * u * u);
            r[i] += A[k] * e[k][i];
        }
    }
    real loss = 0;
#pragma omp simd reduction(+ : loss)
    for (int i = 0; i < rows; i++) loss += r[i] * r[i];
    sums[3 * PEAKS] += loss;
    for (int k = 0; k < PEAKS; k++) {
        real a = 0, b = 0, c = 0;
#pragma omp simd reduction(+ : a, b, c)
        for (int i = 0; i < rows; i++) {
            real u = (x[i] - m[k]) * inverse[k], w = r[i] * e[k][i];
            a += w;
            b += w * u;
            c += w * u * u;
        }
        sums[k] += a;
        sums[PEAKS + k] += b;
        sums[2 * PEAKS + k] += c;
    }
}

double evaluate(const long *lengths, void *const *in, void *const *out, int threads) {
    const real *A = in[0], *m = in[1], *s = in[2], *x = in[3], *y = in[4];
    long n = lengths[3];
    real inverse[PEAKS];
    for (int k = 0; k < PEAKS; k++) inverse[k] = 1 / s[k];
    double sums[SUMS] = {0};
#pragma omp parallel num_threads(threads)
    {
        unsigned state = flush_denormals();
        double own[SUMS] = {0};
        range r = share(n, TILE);
        for (long i = r.low; i < r.high; i += TILE)
            tile_of(x + i, y + i, least(TILE, r.high - i), A, m, inverse, own);
        restore(state);
#pragma omp critical
        add_all(sums, own, SUMS);
    }
    for (int k = 0; k < PEAKS; k++) {
        sums[PEAKS + k] *= A[k] * inverse[k];
        sums[2 * PEAKS + k] *= A[k] * inverse[k];
    }
    for (int k = 0; k < 3; k++) give(out[k], sums + k * PEAKS, PEAKS, 2.0 / n);
    return sums[3 * PEAKS] / n;
}
