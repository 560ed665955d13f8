/* A network 784-128-128-10 with tanh, its matrix products by CBLAS: W1, b1, W2, b2, W3,
   b3; X (n, 784), Y (n, 10). Threads have tiles of rows and sums of their own. */

#include "kernel.h"

enum { D = 784, H = 128, K = 10, TILE = 256 };
enum { ROWS = 101, PLAIN = 111, TRANSPOSED = 112 };
enum { W1 = 0, B1 = D * H, W2 = B1 + H, B2 = W2 + H * H, W3 = B2 + H, B3 = W3 + H * K,
       SUMS = B3 + K };

typedef void gemm_t(int, int, int, int, int, int, real, const real *, int,
                    const real *, int, real, real *, int);

static gemm_t *gemm;

void set_gemm(gemm_t *function) { gemm = function; }

typedef struct {
    real h1[TILE * H], h2[TILE * H], r[TILE * K], d1[TILE * H], d2[TILE * H];
    real sums[SUMS];
} room_t;

static void layer(const real *x, int width, const real *W, const real *b, int to,
                  int rows, real *out) {
    for (int i = 0; i < rows; i++) memcpy(out + i * to, b, to * sizeof(real));
    gemm(ROWS, PLAIN, PLAIN, rows, to, width, 1, x, width, W, to, 1, out, to);
}

static void apply_tanh(real *h, int count) {
#pragma omp simd
    for (int i = 0; i < count; i++) h[i] = TANH(h[i]);
}

/* Adds to the gradients of a layer; d is the derivative by its output. */
static void back(const real *x, int width, const real *d, int to, int rows, real *gW,
                 real *gb) {
    gemm(ROWS, TRANSPOSED, PLAIN, width, to, rows, 1, x, width, d, to, 1, gW, to);
    for (int i = 0; i < rows; i++)
        for (int k = 0; k < to; k++) gb[k] += d[i * to + k];
}

/* The derivative by the inputs h = tanh(...) of a layer. */
static void through(const real *d, int to, const real *W, const real *h, int rows,
                    real *out) {
    gemm(ROWS, PLAIN, TRANSPOSED, rows, H, to, 1, d, to, W, to, 0, out, H);
    for (int i = 0; i < rows * H; i++) out[i] *= 1 - h[i] * h[i];
}

static double tile_of(void *const *in, const real *X, const real *Y, int rows,
                      room_t *m) {
    layer(X, D, in[0], in[1], H, rows, m->h1);
    apply_tanh(m->h1, rows * H);
    layer(m->h1, H, in[2], in[3], H, rows, m->h2);
    apply_tanh(m->h2, rows * H);
    layer(m->h2, H, in[4], in[5], K, rows, m->r);
    real sum = 0;
    for (int i = 0; i < rows * K; i++) m->r[i] -= Y[i], sum += m->r[i] * m->r[i];
    back(m->h2, H, m->r, K, rows, m->sums + W3, m->sums + B3);
    through(m->r, K, in[4], m->h2, rows, m->d2);
    back(m->h1, H, m->d2, H, rows, m->sums + W2, m->sums + B2);
    through(m->d2, H, in[2], m->h1, rows, m->d1);
    back(X, D, m->d1, H, rows, m->sums + W1, m->sums + B1);
    return sum;
}

static room_t *rooms; /* kept between calls */
static int rooms_for;

double evaluate(const long *lengths, void *const *in, void *const *out, int threads) {
    const real *X = in[6], *Y = in[7];
    long n = lengths[6];
    if (rooms_for < threads) {
        free(rooms);
        rooms = aligned_alloc(64, (threads * sizeof(room_t) + 63) / 64 * 64);
        rooms_for = threads;
    }
    double loss = 0;
#pragma omp parallel num_threads(threads) reduction(+ : loss)
    {
        room_t *m = rooms + omp_get_thread_num();
        memset(m->sums, 0, sizeof m->sums);
        range r = share(n, TILE);
        for (long i = r.low; i < r.high; i += TILE)
            loss += tile_of(in, X + i * D, Y + i * K, least(TILE, r.high - i), m);
    }
    const int starts[7] = {W1, B1, W2, B2, W3, B3, SUMS};
    for (int k = 0; k < 6; k++) {
        real *g = out[k];
        for (int i = starts[k]; i < starts[k + 1]; i++) {
            real sum = 0;
            for (int t = 0; t < threads; t++) sum += rooms[t].sums[i];
            g[i - starts[k]] = sum * 2 / (n * K);
        }
    }
    return loss / (n * K);
}
