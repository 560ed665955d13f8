/* Softmax regression: W (D, K), b (K,); X (n, D), Y (n, K), D a multiple of LANES.

   Lanes run along the features. Two rows are multiplied by all columns of W at a time;
   the gradient of a tile is added up feature by feature, while its rows are in L2. */

#include "kernel.h"

enum { D = 784, K = 10, TILE = 16, PAIR = 2 };

typedef struct {
    real W[K][D] ALIGNED; /* transposed */
} columns_t;

static void scores(const real *X, const columns_t *w, int rows, real (*z)[K]) {
    for (int i = 0; i < rows; i += PAIR) {
        const real *x = X + i * D, *next = i + 1 < rows ? x + D : x;
        vec a[K] = {{0}}, b[K] = {{0}};
        for (int d = 0; d < D; d += LANES) {
            __builtin_prefetch(x + d + 2 * D);
            __builtin_prefetch(next + d + 2 * D);
            vec u = load(x + d), v = load(next + d);
            UNROLL for (int k = 0; k < K; k++) {
                vec c = *(const vec *)(w->W[k] + d);
                a[k] += u * c;
                b[k] += v * c;
            }
        }
        for (int k = 0; k < K; k++) z[i][k] = total(a[k]), z[i + 1][k] = total(b[k]);
    }
}

/* The loss; z becomes its derivative. */
static double losses(const real *Y, const real *b, int rows, real (*z)[K]) {
    double sum = 0;
    for (int i = 0; i < rows; i++) {
        real most = -INFINITY, s = 0, right = 0;
        for (int k = 0; k < K; k++) {
            z[i][k] += b[k];
            right += Y[i * K + k] * z[i][k];
            most = most < z[i][k] ? z[i][k] : most;
        }
        real e[K];
#pragma omp simd reduction(+ : s)
        for (int k = 0; k < K; k++) s += e[k] = EXP(z[i][k] - most);
        real weight = 0;
        for (int k = 0; k < K; k++) weight += Y[i * K + k];
        sum += most + LOG(s) - right;
        for (int k = 0; k < K; k++) z[i][k] = e[k] / s - Y[i * K + k];
    }
    return sum;
}

static void gradient(const real *X, int rows, real (*z)[K], columns_t *g) {
    for (int d = 0; d < D; d += LANES) {
        vec a[K];
        UNROLL for (int k = 0; k < K; k++) a[k] = *(vec *)(g->W[k] + d);
        for (int i = 0; i < rows; i++) {
            vec x = load(X + i * D + d);
            UNROLL for (int k = 0; k < K; k++) a[k] += x * z[i][k];
        }
        UNROLL for (int k = 0; k < K; k++) *(vec *)(g->W[k] + d) = a[k];
    }
}

double evaluate(const long *lengths, void *const *in, void *const *out, int threads) {
    const real *W = in[0], *b = in[1], *X = in[2], *Y = in[3];
    long n = lengths[2];
    static columns_t w;
    for (int d = 0; d < D; d++)
        for (int k = 0; k < K; k++) w.W[k][d] = W[d * K + k];
    static double sums[K * D];
    double shift[K + 1] = {0};
    memset(sums, 0, sizeof sums);
#pragma omp parallel num_threads(threads)
    {
        unsigned state = flush_denormals();
        static _Thread_local columns_t g;
        double own[K + 1] = {0};
        memset(&g, 0, sizeof g);
        range r = share(n, TILE);
        for (long i = r.low; i < r.high; i += TILE) {
            real z[TILE + 1][K];
            int rows = least(TILE, r.high - i);
            scores(X + i * D, &w, rows, z);
            own[K] += losses(Y + i * K, b, rows, z);
            for (int t = 0; t < rows; t++)
                for (int k = 0; k < K; k++) own[k] += z[t][k];
            gradient(X + i * D, rows, z, &g);
        }
        restore(state);
#pragma omp critical
        {
            add_all(shift, own, K + 1);
            for (int d = 0; d < D; d++)
                for (int k = 0; k < K; k++) sums[d * K + k] += g.W[k][d];
        }
    }
    give(out[0], sums, D * K, 1.0 / n);
    give(out[1], shift, K, 1.0 / n);
    return shift[K] / n;
}
