/* Cauchy loss of a damped cosine: A, k, w, p; t, y (n,).

   sin and cos stand in loops of their own: together gcc makes one call of them that
   has no vector version. */

#include "kernel.h"

enum { TILE = 256, SUMS = 5 };

static void tile_of(const real *restrict t, const real *restrict y, int rows, real A,
                    real k, real w, real p, double *sums) {
    real e[TILE] ALIGNED, c[TILE] ALIGNED, s[TILE] ALIGNED;
#pragma omp simd
    for (int i = 0; i < rows; i++) e[i] = EXP(-k * t[i]);
#pragma omp simd
    for (int i = 0; i < rows; i++) c[i] = COS(w * t[i] + p);
#pragma omp simd
    for (int i = 0; i < rows; i++) s[i] = SIN(w * t[i] + p);
    real loss = 0, dA = 0, dk = 0, dw = 0, dp = 0;
#pragma omp simd reduction(+ : loss, dA, dk, dw, dp)
    for (int i = 0; i < rows; i++) {
        real r = y[i] - A * e[i] * c[i], square = r * r;
        loss += LOG1P(square);
        real g = -2 * r / (1 + square) * e[i], a = g * c[i], b = g * s[i];
        dA += a;
        dk -= a * t[i];
        dw -= b * t[i];
        dp -= b;
    }
    double found[SUMS] = {dA, dk * A, dw * A, dp * A, loss};
    add_all(sums, found, SUMS);
}

double evaluate(const long *lengths, void *const *in, void *const *out, int threads) {
    const real *const *scalars = (const real *const *)in, *t = in[4], *y = in[5];
    long n = lengths[4];
    double sums[SUMS] = {0};
#pragma omp parallel num_threads(threads)
    {
        unsigned state = flush_denormals();
        double own[SUMS] = {0};
        range r = share(n, TILE);
        for (long i = r.low; i < r.high; i += TILE)
            tile_of(t + i, y + i, least(TILE, r.high - i), *scalars[0], *scalars[1],
                    *scalars[2], *scalars[3], own);
        restore(state);
#pragma omp critical
        add_all(sums, own, SUMS);
    }
    for (int k = 0; k < 4; k++) give(out[k], sums + k, 1, 1.0 / n);
    return sums[4] / n;
}
