/* Matrix factorisation: U (users, R), V (films, R); i, j, r (n,).

   Each thread adds into gradients of its own, which are added up at the end. */

#include "kernel.h"

enum { R = 16, PIECES = R / LANES };

static real *room; /* kept between calls */
static long room_for;

static double ratings(range own, const real *U, const real *V, const long *i,
                      const long *j, const real *r, real *gU, real *gV) {
    double sum = 0;
    for (long k = own.low; k < own.high; k++) {
        const real *u = U + i[k] * R, *v = V + j[k] * R;
        real *a = gU + i[k] * R, *b = gV + j[k] * R;
        vec product = {0};
        UNROLL for (int p = 0; p < PIECES; p++)
            product += load(u + p * LANES) * load(v + p * LANES);
        real dot = 0;
        UNROLL for (int p = 0; p < LANES; p++) dot += product[p];
        real e = dot - r[k];
        sum += e * e;
        UNROLL for (int p = 0; p < PIECES; p++) {
            vec x = load(u + p * LANES), y = load(v + p * LANES);
            store(a + p * LANES, load(a + p * LANES) + y * e);
            store(b + p * LANES, load(b + p * LANES) + x * e);
        }
    }
    return sum;
}

double evaluate(const long *lengths, void *const *in, void *const *out, int threads) {
    const long users = lengths[0] * R, films = lengths[1] * R, n = lengths[2];
    const long count = users + films;
    if (room_for < threads * count) {
        free(room);
        room_for = threads * count;
        room = malloc(room_for * sizeof(real));
    }
    double sum = 0;
#pragma omp parallel num_threads(threads) reduction(+ : sum)
    {
        real *mine = room + omp_get_thread_num() * count;
        memset(mine, 0, count * sizeof(real));
        sum += ratings(share(n, 1), in[0], in[1], in[2], in[3], in[4], mine,
                       mine + users);
#pragma omp barrier
        real *gU = out[0], *gV = out[1], scale = (real)2 / n;
#pragma omp for simd
        for (long k = 0; k < count; k++) {
            real g = 0;
            for (int t = 0; t < threads; t++) g += room[t * count + k];
            *(k < users ? gU + k : gV + k - users) = g * scale;
        }
    }
    return sum / n;
}
