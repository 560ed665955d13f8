/* k-means: C (K, 2); P (n, 2). Lanes are points; the gradient is added up point by
   point. */

#include "kernel.h"

enum { K = 25, TILE = 1024, SUMS = 2 * K + 1 };

static real tile_of(const real *P, int rows, const real *C, double *sums) {
    real x[TILE] ALIGNED, y[TILE] ALIGNED, best[TILE] ALIGNED;
    integer nearest[TILE] ALIGNED;
    for (int i = 0; i < rows; i++) x[i] = P[2 * i], y[i] = P[2 * i + 1];
#pragma omp simd
    for (int i = 0; i < rows; i++) {
        real least = INFINITY;
        integer which = 0;
#pragma GCC unroll 32
        for (int k = 0; k < K; k++) {
            real a = x[i] - C[2 * k], b = y[i] - C[2 * k + 1], d = a * a + b * b;
            which = d < least ? k : which;
            least = d < least ? d : least;
        }
        best[i] = least;
        nearest[i] = which;
    }
    real sum = 0;
    real gx[K][2] = {{0}}; /* by parity of the row: two chains */
    real gy[K][2] = {{0}};
    for (int i = 0; i < rows; i++) {
        int k = nearest[i];
        sum += best[i];
        gx[k][i & 1] += C[2 * k] - x[i];
        gy[k][i & 1] += C[2 * k + 1] - y[i];
    }
    for (int k = 0; k < K; k++) {
        sums[2 * k] += gx[k][0] + gx[k][1];
        sums[2 * k + 1] += gy[k][0] + gy[k][1];
    }
    return sum;
}

double evaluate(const long *lengths, void *const *in, void *const *out, int threads) {
    const real *C = in[0], *P = in[1];
    long n = lengths[1];
    double sums[SUMS] = {0};
#pragma omp parallel num_threads(threads)
    {
        double own[SUMS] = {0};
        range r = share(n, TILE);
        for (long i = r.low; i < r.high; i += TILE)
            own[2 * K] += tile_of(P + 2 * i, least(TILE, r.high - i), C, own);
#pragma omp critical
        add_all(sums, own, SUMS);
    }
    give(out[0], sums, 2 * K, 2.0);
    return sums[2 * K];
}
