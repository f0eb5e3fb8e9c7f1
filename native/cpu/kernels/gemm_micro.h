// The micro-kernel of the matrix product: a tile of sums in registers, one rank-1 update a step of k.
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

// tile[rows][kTileColumns] = Σ_p a[p][·] b[p][·], of which `vectors` are computed.
template <int rows, int vectors>
__attribute__((noinline)) void micro_kernel(int64_t k, const float* a, int64_t a_step, const float* b, int64_t b_step,
                                            float* tile) {
  vf sum[rows][vectors];
#pragma GCC unroll 16
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) sum[i][v] = vf{};
  for (int64_t p = 0; p < k; p++, a += a_step, b += b_step) {
    vf column[vectors];
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) column[v] = load(b + v * kWidth);
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) {
      const vf x = set1(a[i]);
#pragma GCC unroll 2
      for (int v = 0; v < vectors; v++) sum[i][v] = fma(x, column[v], sum[i][v]);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) store(tile + i * kTileColumns + v * kWidth, sum[i][v]);
}

template <int R = kTileRows>
inline void multiply_tile(int64_t rows, int64_t columns, int64_t k, const float* a, int64_t a_step, const float* b,
                          int64_t b_step, float* tile) {
  if constexpr (R > 1)
    if (rows < R) return multiply_tile<R - 1>(rows, columns, k, a, a_step, b, b_step, tile);
  if (columns > kWidth)
    micro_kernel<R, 2>(k, a, a_step, b, b_step, tile);
  else
    micro_kernel<R, 1>(k, a, a_step, b, b_step, tile);
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
