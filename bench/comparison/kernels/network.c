/* A network 2-16-16-1 with tanh: W1 (2, 16), b1, W2 (16, 16), b2, W3 (16,), b3;
   X (n, 2), y (n,). A vector is LANES rows; forward and backward of a tile together. */

#include "kernel.h"

enum { H = 16, TILE = 128, BLOCK = 4 };

typedef struct {
    vec W1[2][H], b1[H], W2[H][H], b2[H], W3[H], b3, loss;
} sums_t;

typedef struct {
    const real *W1, *b1, *W2, *b2, *W3, *b3;
} weights_t;

static inline vec at(const real *p) { return *(const vec *)p; }

static void forward(const weights_t *w, const real *x0, const real *x1,
                    real (*restrict h1)[TILE], real (*restrict h2)[TILE]) {
    for (int j = 0; j < H; j++) {
#pragma omp simd
        for (int i = 0; i < TILE; i++)
            h1[j][i] = TANH(x0[i] * w->W1[j] + x1[i] * w->W1[H + j] + w->b1[j]);
    }
    for (int j = 0; j < H; j += 2 * BLOCK) {
        for (int i = 0; i < TILE; i += LANES) {
            vec a[2 * BLOCK];
            UNROLL for (int k = 0; k < 2 * BLOCK; k++) a[k] = splat(w->b2[j + k]);
            for (int l = 0; l < H; l++) {
                vec h = at(h1[l] + i);
                UNROLL for (int k = 0; k < 2 * BLOCK; k++)
                    a[k] += h * w->W2[l * H + j + k];
            }
            UNROLL for (int k = 0; k < 2 * BLOCK; k++) *(vec *)(h2[j + k] + i) = a[k];
        }
    }
    for (int j = 0; j < H; j++) {
#pragma omp simd
        for (int i = 0; i < TILE; i++) h2[j][i] = TANH(h2[j][i]);
    }
}

/* r: of the output; d2 takes the place of h2 afterwards. */
static void output(const weights_t *w, const real *y, int rows, real (*h2)[TILE],
                   real (*d2)[TILE], sums_t *sums) {
    for (int i = 0; i < TILE; i += LANES) {
        vec p = splat(*w->b3);
        for (int j = 0; j < H; j++) p += at(h2[j] + i) * w->W3[j];
        vec r = {0};
        for (int k = 0; k < LANES && i + k < rows; k++) r[k] = p[k] - y[i + k];
        sums->loss += r * r;
        sums->b3 += r;
        for (int j = 0; j < H; j++) {
            vec h = at(h2[j] + i), d = r * w->W3[j] * (1 - h * h);
            sums->W3[j] += r * h;
            sums->b2[j] += d;
            *(vec *)(d2[j] + i) = d;
        }
    }
}

static void hidden(const weights_t *w, const real *x0, const real *x1,
                   real (*h1)[TILE], real (*d2)[TILE], sums_t *sums) {
    for (int l = 0; l < H; l += BLOCK) {
        for (int j = 0; j < H; j += BLOCK) {
            vec a[BLOCK][BLOCK] = {{{0}}};
            for (int i = 0; i < TILE; i += LANES)
                UNROLL for (int u = 0; u < BLOCK; u++)
                    UNROLL for (int v = 0; v < BLOCK; v++)
                        a[u][v] += at(h1[l + u] + i) * at(d2[j + v] + i);
            for (int u = 0; u < BLOCK; u++)
                for (int v = 0; v < BLOCK; v++) sums->W2[l + u][j + v] += a[u][v];
        }
        vec b[BLOCK] = {{0}}, g0[BLOCK] = {{0}}, g1[BLOCK] = {{0}};
        for (int i = 0; i < TILE; i += LANES) {
            vec s[BLOCK] = {{0}};
            for (int j = 0; j < H; j++)
                UNROLL for (int u = 0; u < BLOCK; u++)
                    s[u] += at(d2[j] + i) * w->W2[(l + u) * H + j];
            UNROLL for (int u = 0; u < BLOCK; u++) {
                vec h = at(h1[l + u] + i), d = s[u] * (1 - h * h);
                b[u] += d;
                g0[u] += d * at(x0 + i);
                g1[u] += d * at(x1 + i);
            }
        }
        for (int u = 0; u < BLOCK; u++) {
            sums->b1[l + u] += b[u];
            sums->W1[0][l + u] += g0[u];
            sums->W1[1][l + u] += g1[u];
        }
    }
}

static void tile_of(const weights_t *w, const real *X, const real *y, int rows,
                    sums_t *sums) {
    real h1[H][TILE] ALIGNED, h2[H][TILE] ALIGNED, x[2][TILE] ALIGNED;
    for (int i = 0; i < TILE; i++)
        for (int k = 0; k < 2; k++) x[k][i] = i < rows ? X[2 * i + k] : 0;
    forward(w, x[0], x[1], h1, h2);
    output(w, y, rows, h2, h2, sums);
    hidden(w, x[0], x[1], h1, h2, sums);
}

double evaluate(const long *lengths, void *const *in, void *const *out, int threads) {
    weights_t w = {in[0], in[1], in[2], in[3], in[4], in[5]};
    const real *X = in[6], *y = in[7];
    long n = lengths[6];
    enum { COUNT = sizeof(sums_t) / sizeof(vec) };
    double sums[COUNT] = {0};
#pragma omp parallel num_threads(threads)
    {
        static _Thread_local sums_t own;
        memset(&own, 0, sizeof own);
        range r = share(n, TILE);
        for (long i = r.low; i < r.high; i += TILE)
            tile_of(&w, X + 2 * i, y + i, least(TILE, r.high - i), &own);
#pragma omp critical
        for (int k = 0; k < COUNT; k++) sums[k] += total(((vec *)&own)[k]);
    }
    const int counts[6] = {2 * H, H, H * H, H, H, 1};
    const double *from = sums;
    for (int k = 0; k < 6; from += counts[k++]) give(out[k], from, counts[k], 2.0 / n);
    return sums[COUNT - 1] / n;
}
