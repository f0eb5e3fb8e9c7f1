// The micro-kernel of the matrix product: a tile of sums in registers, one rank-1 update a step of k, or of two where
// the panels hold pairs of bf16.
#pragma once
#include "cpu/kernels/kernel.h"

namespace heed::cpu::HEED_ISA {
namespace {

// Accumulators fill the registers: 28 of 32 with AVX-512, 12 of 16 without; the rest hold B and a broadcast of A.
#if defined(__AVX512F__)
constexpr int kTileRows = 14;
#else
constexpr int kTileRows = 6;
#endif
constexpr int kTileVectors = 2;
constexpr int kTileColumns = kTileVectors * kWidth;

// What a 32-bit word of a panel holds of an operand.
enum class Word { f32, bf16_pair };

// sum + x · y, of pairs x₀ · y₀ + x₁ · y₁. The instruction is written out because the other functions of a file for
// AVX-512 must not use it, and GCC does not inline what may into what may not (isa.h, bf16_dot).
template <Word word>
__attribute__((always_inline)) inline vf multiply_add(vf x, vf y, vf sum) {
  if constexpr (word == Word::f32) return fma(x, y, sum);
#if defined(__AVX512F__)
  asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(x), "v"(y));
#endif
  return sum;
}

constexpr int64_t kCacheLine = 64;

// What is read from memory ahead of its use, two cache lines a step: those at `first` + p % period · inner +
// p / period · outer, for a power of two, and `second` bytes further.
struct Ahead {
  const char* first;
  int64_t period_mask = 0, period_shift = 0, inner = 0, outer = 0, second = 0;

  // What the i-th of n products reads of it, one line each if there are several.
  Ahead part(int64_t i, int64_t n) const {
    if (n == 1) return *this;
    if (i > 1) return {first};
    Ahead half = *this;
    half.first += i * second;
    half.second = 0;
    return half;
  }
};

// tile[rows][kTileColumns] = Σ_p a[p][·] b[p][·], of which `vectors` are computed.
template <Word word, int rows, int vectors>
__attribute__((noinline)) void micro_kernel(int64_t steps, const float* a, int64_t a_step, const float* b,
                                            int64_t b_step, float* tile, const Ahead& ahead) {
  vf sum[rows][vectors];
#pragma GCC unroll 16
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) sum[i][v] = vf{};
  for (int64_t p = 0; p < steps; p++, a += a_step, b += b_step) {
    const char* const line =
        ahead.first + (p & ahead.period_mask) * ahead.inner + (p >> ahead.period_shift) * ahead.outer;
    __builtin_prefetch(line, 0, 2);
    __builtin_prefetch(line + ahead.second, 0, 2);
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
#pragma GCC unroll 16
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) store(tile + i * kTileColumns + v * kWidth, sum[i][v]);
}

template <Word word, int R = kTileRows>
inline void multiply_tile(int64_t rows, int64_t columns, int64_t steps, const float* a, int64_t a_step, const float* b,
                          int64_t b_step, float* tile, const Ahead& ahead) {
  if constexpr (R > 1)
    if (rows < R) return multiply_tile<word, R - 1>(rows, columns, steps, a, a_step, b, b_step, tile, ahead);
  if (columns > kWidth)
    micro_kernel<word, R, 2>(steps, a, a_step, b, b_step, tile, ahead);
  else
    micro_kernel<word, R, 1>(steps, a, a_step, b, b_step, tile, ahead);
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
