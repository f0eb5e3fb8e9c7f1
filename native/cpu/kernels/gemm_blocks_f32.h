// The product with a weight in blocks in f32. Steps of 256 numbers of a tile's columns are decoded into L1 (blocks.h)
// and multiplied by the rows of a, one or many. Lanes of a vector are kWidth consecutive k; their sums are added at the
// end.
#pragma once
#include "cpu/kernels/gemm_blocks.h"

namespace heed::cpu::HEED_ISA {
namespace {

constexpr int64_t kTileRows = kWidth == 16 ? 4 : 2;  // as many as registers have room for
constexpr int64_t kColumns = 4;                      // of a tile
constexpr int64_t kMostRows = 64;                    // whose sums a task keeps

// Adds the lanes of the sums of a tile's columns.
inline vf sums_of_lanes(const float* sums) {
  vf sum{};
  for (int64_t c = 0; c < kColumns; c++) sum[c] = hsum(load(sums + c * kWidth));
  return sum;
}

// sums[r][c] += x[r][k] · weights[c][k] over n values of k, in lanes.
template <int R>
inline void multiply(const float* x, int64_t stride, const float* weights, int64_t n, float* sums) {
  vf sum[R][kColumns];
#pragma GCC unroll 4
  for (int r = 0; r < R; r++)
#pragma GCC unroll 4
    for (int c = 0; c < kColumns; c++) sum[r][c] = load(sums + (r * kColumns + c) * kWidth);
  for (int64_t k = 0; k < n; k += kWidth) {
    vf weight[kColumns];
#pragma GCC unroll 4
    for (int c = 0; c < kColumns; c++) weight[c] = load(weights + c * kBlockDepth + k);
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) {
      const vf input = load(x + r * stride + k);
#pragma GCC unroll 4
      for (int c = 0; c < kColumns; c++) sum[r][c] = fma(input, weight[c], sum[r][c]);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; r++)
#pragma GCC unroll 4
    for (int c = 0; c < kColumns; c++) store(sums + (r * kColumns + c) * kWidth, sum[r][c]);
}

// Computes `count` rows from row `first` of x [rows, K] on by the columns of one tile.
inline void multiply_tile(const BlockProduct& p, Decoder decoder, const float* x, int64_t first, int64_t count,
                          int64_t column, int64_t ahead) {
  const BlockLayout& w = p.weight;
  alignas(64) float weights[kColumns * kBlockDepth];
  alignas(64) float sums[kMostRows * kColumns * kWidth];
  std::memset(sums, 0, static_cast<size_t>(count * kColumns * kWidth) * sizeof(float));
  const uint8_t* columns[kColumns];
  for (int64_t c = 0; c < kColumns; c++) columns[c] = column_at(p, column + c);
  for (int64_t k = 0; k < w.K; k += kBlockDepth) {
    const int64_t n = min_of<int64_t>(kBlockDepth, w.K - k), blocks = n / w.numbers(), bytes = blocks * w.bytes();
    for (int64_t c = 0; c < kColumns; c++) {
      if (ahead) prefetch(columns[c] + ahead, bytes);
      decoder(columns[c], blocks, weights + c * kBlockDepth);
      columns[c] += bytes;
    }
    const float* const from = x + first * w.K + k;
    int64_t r = 0;
    for (; r + kTileRows <= count; r += kTileRows)
      multiply<kTileRows>(from + r * w.K, w.K, weights, n, sums + r * kColumns * kWidth);
    for (; r < count; r++) multiply<1>(from + r * w.K, w.K, weights, n, sums + r * kColumns * kWidth);
  }
  for (int64_t r = 0; r < count; r++)
    finish(p, first + r, column, sums_of_lanes(sums + r * kColumns * kWidth), kColumns);
}

inline void multiply_floats(const BlockProduct& p, const float* x) {
  const Decoder decoder = decoder_of(p.weight.kind);
  over_runs(p, kColumns, kTileRows, kMostRows, p.weight.K * 4,
            [&](int64_t first, int64_t count, int64_t column, int64_t ahead) {
              multiply_tile(p, decoder, x, first, count, column, ahead);
            });
}

inline void widen_rows(const TensorView& a, float* to) {
  parallel_for(a.numel(), 16384, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i += kWidth) store_some(to + i, load_floats(a, i, end - i), end - i);
  });
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
