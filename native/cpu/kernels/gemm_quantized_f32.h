// The product with a quantised weight in f32: codes become floats in registers and are multiplied by their scale, which
// is exact (8 bits of a code by 8 of a scale), and then by four rows at once.
#pragma once
#include "cpu/kernels/gemm_quantized.h"

namespace heed::cpu::HEED_ISA {
namespace {

// a as f32 rows of whole groups, with zeros beyond K.
inline void widen_rows(const QuantizedProduct& p, float* rows) {
  const int64_t K = p.weight.K, padded = p.weight.padded();
  parallel_for(p.rows, max_of<int64_t>(1, 16384 / max_of<int64_t>(padded, 1)), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++)
      for (int64_t k = 0; k < padded; k += kWidth) {
        const vf x = k < K ? load_floats(p.a, i * K + k, K - k) : vf{};
        store_some(rows + i * padded + k, x, padded - k);
      }
  });
}

constexpr int kVectors = 2;  // vectors of columns at once

template <int bits, int R>
struct FloatTile {
  // Computes up to four rows, beginning at row i of `rows`, by kVectors · kWidth columns from `column` of the panel on.
  static void run(const QuantizedProduct& p, const float* rows, int64_t panel, int64_t column, int64_t i) {
    using C = Codes<bits>;
    const QuantizedLayout& w = p.weight;
    const uint8_t* words[kVectors];
    const bf16* scales[kVectors];
    for (int v = 0; v < kVectors; v++) {
      const int64_t at = column + v * kWidth, lane = at % kPanelColumns;
      // The last pair may have only one panel, whose sums are then computed twice.
      const int64_t here = min_of(panel + at / kPanelColumns, w.panels() - 1);
      words[v] = p.panel_codes(here) + lane * 4;
      scales[v] = p.panel_scales(here) + lane;
    }
    const float* const x = rows + i * w.padded();
    vf sum[R][kVectors] = {};
    int64_t k = 0;
    for (int64_t g = 0; g < w.groups(); g++) {
      vf scale[kVectors];
      for (int v = 0; v < kVectors; v++) scale[v] = load_f32(scales[v] + g * kPanelColumns);
      for (int64_t word = 0; word < w.words_of_group(); word++, k += C::kPerWord) {
        vi codes[kVectors];
        for (int v = 0; v < kVectors; v++) {
          codes[v] = C::load(words[v]);
          words[v] += kPanelBytes;
        }
        multiply<0>(x + k, w.padded(), codes, scale, sum);
      }
    }
    for (int r = 0; r < R; r++)
      for (int v = 0; v < kVectors; v++) finish(p, i + r, panel * kPanelColumns + column + v * kWidth, sum[r][v]);
  }

 private:
  template <int k>
  static inline __attribute__((always_inline)) void multiply(const float* x, int64_t stride,
                                                             const vi (&codes)[kVectors], const vf (&scale)[kVectors],
                                                             vf (&sum)[R][kVectors]) {
    if constexpr (k < Codes<bits>::kPerWord) {
      vf weight[kVectors];
      for (int v = 0; v < kVectors; v++) weight[v] = Codes<bits>::weights(codes[v], k) * scale[v];
#pragma GCC unroll 4
      for (int r = 0; r < R; r++)
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; v++) sum[r][v] = fma(set1(x[r * stride + k]), weight[v], sum[r][v]);
      multiply<k + 1>(x, stride, codes, scale, sum);
    }
  }
};

template <int bits>
inline void multiply_floats(const QuantizedProduct& p, float* rows) {
  widen_rows(p, rows);
  over_panels(p, p.weight.padded() * 4, 2, [&](const PanelRun& run) {
    for (int64_t column = 0; column < 2 * kPanelColumns; column += kVectors * kWidth) {
      if (run.panel + column / kPanelColumns >= p.weight.panels()) break;
      int64_t i = run.first_row;
      const int64_t end = i + run.rows;
      for (; i + 4 <= end; i += 4) FloatTile<bits, 4>::run(p, rows, run.panel, column, i);
      for (; i < end; i++) FloatTile<bits, 1>::run(p, rows, run.panel, column, i);
    }
  });
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
