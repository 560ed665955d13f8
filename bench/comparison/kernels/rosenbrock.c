/* Rosenbrock's valley in n dimensions: x (n,). */

#include "kernel.h"

enum { TILE = 1024 };

double evaluate(const long *lengths, void *const *in, void *const *out, int threads) {
    const real *restrict x = in[0];
    real *restrict g = out[0];
    long n = lengths[0];
    double sum = 0;
#pragma omp parallel num_threads(threads) reduction(+ : sum)
    {
        range r = share(n - 1, TILE);
        for (long low = r.low; low < r.high; low += TILE) {
            long high = least(low + TILE, r.high);
            real part = 0;
            /* The term before the first belongs to another tile. */
            real before = low ? x[low] - x[low - 1] * x[low - 1] : 0;
            real left = x[low + 1] - x[low] * x[low];
            g[low] = 200 * before - 400 * x[low] * left - 2 * (1 - x[low]);
            part += 100 * left * left + (1 - x[low]) * (1 - x[low]);
#pragma omp simd reduction(+ : part)
            for (long i = low + 1; i < high; i++) {
                real a = x[i] - x[i - 1] * x[i - 1], b = x[i + 1] - x[i] * x[i];
                real c = 1 - x[i];
                part += 100 * b * b + c * c;
                g[i] = 200 * a - 400 * x[i] * b - 2 * c;
            }
            sum += part;
        }
    }
    g[n - 1] = 200 * (x[n - 1] - x[n - 2] * x[n - 2]);
    return sum;
}
