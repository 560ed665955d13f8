/* What all kernels share: vectors of 64 bytes, rows split among threads, sums. */

#pragma once
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

#ifdef SINGLE
typedef float real;
typedef int integer;
enum { LANES = 16 };
#define EXP expf
#define LOG logf
#define LOG1P log1pf
#define TANH tanhf
#define SIN sinf
#define COS cosf
#else
typedef double real;
typedef long integer;
enum { LANES = 8 };
#define EXP exp
#define LOG log
#define LOG1P log1p
#define TANH tanh
#define SIN sin
#define COS cos
#endif

/* libmvec's exp leaves its fast path for results that underflow, one lane after the
   other. */
static inline real exp_of_negative(real x) {
    const real least = sizeof(real) == 4 ? -87 : -708;
    return EXP(x < least ? least : x);
}

typedef real vec __attribute__((vector_size(64)));
typedef real loose __attribute__((vector_size(64), aligned(sizeof(real)), may_alias));
typedef integer ivec __attribute__((vector_size(64)));

#define ALIGNED __attribute__((aligned(64)))
#define UNROLL _Pragma("GCC unroll 16")

static inline vec splat(real x) { return x - (vec){0}; }
static inline vec load(const real *p) { return *(const loose *)p; }
static inline void store(real *p, vec v) { *(loose *)p = v; }

static inline double total(vec v) {
    double sum = 0;
    for (int k = 0; k < LANES; k++) sum += v[k];
    return sum;
}

/* Denormal results of exp(-large) would cost a hundred cycles each: they are flushed to
   zero from here to ``restore``, on this thread. */
static inline unsigned flush_denormals(void) {
#ifdef __SSE__
    unsigned before = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(before | 0x8040);
    return before;
#else
    return 0;
#endif
}

static inline void restore(unsigned state) {
#ifdef __SSE__
    __builtin_ia32_ldmxcsr(state);
#endif
}

/* The rows of one thread, in whole tiles. */
typedef struct { long low, high; } range;

static inline range share(long rows, long tile) {
    long tiles = (rows + tile - 1) / tile, threads = omp_get_num_threads();
    long k = omp_get_thread_num();
    range r = {tiles * k / threads * tile, tiles * (k + 1) / threads * tile};
    if (r.high > rows) r.high = rows;
    return r;
}

static inline long least(long a, long b) { return a < b ? a : b; }

/* Sums of all threads: added up in double. */
static inline void add_all(double *to, const double *from, long count) {
    for (long k = 0; k < count; k++) to[k] += from[k];
}

static inline void give(void *out, const double *sums, long count, double scale) {
    real *to = out;
    for (long k = 0; k < count; k++) to[k] = sums[k] * scale;
}
