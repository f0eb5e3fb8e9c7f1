// The micro-kernel of the matrix product: a tile of sums in registers, with one rank-1 update per step of k, or two if
// the panels hold pairs of bf16.
#pragma once
#include "cpu/kernels/gemm_words.h"

namespace heed::cpu::HEED_ISA {
namespace {

// Accumulators fill the registers: 28 of 32 (AVX-512, NEON) or 12 of 16. The rest hold B and a broadcast of A.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kTileRows = 14;
#else
constexpr int kTileRows = 6;
#endif
constexpr int kTileVectors = 2;
constexpr int kTileColumns = kTileVectors * kWidth;

constexpr int64_t kCacheLine = 64;

// Memory that is prefetched, one or two cache lines per step: `runs` runs of `lines` lines. The lines of a run follow
// each other in memory, where the processor's own prefetcher continues; `stride` is the number of bytes from one run to
// the next. The members describe the place at which a product begins; by default it stays at one line.
struct Ahead {
  const char* line;
  int64_t advance = 0;  // bytes per step
  int64_t left = -1;    // steps until the end of the run
  int64_t run = 0;      // steps of a whole run
  int64_t jump = 0;     // bytes from the end of a run to the next run
  int64_t second = 0;   // bytes from the first line of a step to the second

  Ahead(const void* anything) : line(static_cast<const char*>(anything)) {}
  // Takes the i-th part of the lines that are prefetched during n products of `steps` steps.
  Ahead(const char* first, int64_t runs, int64_t lines, int64_t stride, int64_t i, int64_t n, int64_t steps)
      : line(first) {
    if (lines == 0) return;
    const int64_t together = runs * lines > n * steps ? 2 : 1;
    run = ceil_div(lines, together);
    const int64_t begin = i * (runs * run) / n, of_run = begin % run;
    advance = together * kCacheLine;
    second = advance - kCacheLine;
    line += begin / run * stride + of_run * advance;
    left = run - of_run;
    jump = stride - run * advance;
  }
};

// tile[rows][kTileColumns] (+)= Σ_p a[p][·] b[p][·], of which `vectors` are computed, chain after chain of `length`
// steps (gemm_words.h); with `adds`, the first one is added too.
template <Word word, int rows, int vectors>
__attribute__((noinline)) void micro_kernel(int64_t steps, int64_t length, bool adds, const float* a, int64_t a_step,
                                            const float* b, int64_t b_step, float* tile, const Ahead& ahead) {
  const char* line = ahead.line;
  int64_t left = ahead.left;
  do {
    vf sum[rows][vectors];
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
      for (int v = 0; v < vectors; v++) sum[i][v] = vf{};
    const int64_t here = min_of(length, steps);
    for (int64_t p = 0; p < here; p++, a += a_step, b += b_step) {
      __builtin_prefetch(line, 0, 2);
      __builtin_prefetch(line + ahead.second, 0, 2);
      line += ahead.advance;
      if (--left == 0) {
        line += ahead.jump;
        left = ahead.run;
      }
      vf column[vectors];
#pragma GCC unroll 2
      for (int v = 0; v < vectors; v++) column[v] = load(b + v * kWidth);
#pragma GCC unroll 16
      for (int i = 0; i < rows; i++) {
        const vf x = set1(a[i]);
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) sum[i][v] = multiply_add<word>(x, column[v], sum[i][v]);
      }
    }
    if (adds)
#pragma GCC unroll 16
      for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) sum[i][v] += load(tile + i * kTileColumns + v * kWidth);
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
      for (int v = 0; v < vectors; v++) store(tile + i * kTileColumns + v * kWidth, sum[i][v]);
    adds = true;
    steps -= here;
  } while (steps > 0);
}

// The same for any number of rows. An odd one is computed with a row of zeros, which panels have (gemm_pack.h).
template <Word word, int R = kTileRows>
inline void multiply_tile(int64_t rows, int64_t columns, int64_t steps, int64_t length, bool adds, const float* a,
                          int64_t a_step, const float* b, int64_t b_step, float* tile, const Ahead& ahead) {
  static_assert(R % 2 == 0);
  if constexpr (R > 2)
    if (rows <= R - 2)
      return multiply_tile<word, R - 2>(rows, columns, steps, length, adds, a, a_step, b, b_step, tile, ahead);
  if (columns > kWidth)
    micro_kernel<word, R, 2>(steps, length, adds, a, a_step, b, b_step, tile, ahead);
  else
    micro_kernel<word, R, 1>(steps, length, adds, a, a_step, b, b_step, tile, ahead);
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
