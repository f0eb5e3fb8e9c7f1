// Packing for the matrix product: rows of an operand (columns of B are rows here) are cut into panels, each laid out
// [step of k][lanes] in words, chain after chain (gemm_words.h), so that the micro-kernel reads both operands with
// stride one. Lanes past a panel's rows are zeros.
#pragma once
#include "cpu/kernels/gemm_words.h"
#include "cpu/kernels/transpose.h"

namespace heed::cpu::HEED_ISA {
namespace {

struct Panels {
  int64_t rows;    // of a panel
  int64_t lanes;   // rows, rounded up to whole vectors
  int64_t stride;  // from one panel to the next
};

// Rows that are contiguous in k: kWidth rows at a time, squares transposed in registers. The words that `from` holds
// begin at word `begin` of the order, a multiple of kWidth.
template <class Words>
inline void pack_transposed(float* to, int64_t lanes, const typename Words::Element* from, int64_t rows, int64_t k,
                            const Order& order, int64_t row_stride, int64_t begin = 0) {
  constexpr int64_t kStep = kWidth * Words::kElements;
  static_assert(kWidth % kWays == 0);
  int64_t at[kWidth];  // of a square's words, and how much further on the next square's are
  for (int64_t i = 0; i < kWidth; i++) at[i] = order.place(i) * lanes;
  const int64_t advance = kWidth / order.ways * lanes;
  to += begin / order.ways * lanes;
  for (int64_t first = 0; first < lanes; first += kWidth, from += kWidth * row_stride) {
    const int64_t here = rows - first;
    float* d = to + first;
    for (int64_t p = 0; p < k; p += kStep, d += advance) {
      vf square[kWidth];
      if (here >= kWidth && p + kStep <= k) {
#pragma GCC unroll 16
        for (int i = 0; i < kWidth; i++) square[i] = Words::along_k(from + i * row_stride + p, kStep);
      } else {
        for (int i = 0; i < kWidth; i++) square[i] = i < here ? Words::along_k(from + i * row_stride + p, k - p) : vf{};
      }
      transpose(square);
      if (p + kStep <= k) {
#pragma GCC unroll 16
        for (int i = 0; i < kWidth; i++) store(d + at[i], square[i]);
      } else {
        for (int64_t i = 0; i < order.words() - begin - p / Words::kElements; i++) store(d + at[i], square[i]);
      }
    }
  }
}

// Packs panel q: to[q · stride + place(p) · lanes + i] = the word of from[(q · panels.rows + i) · row_stride + p ·
// k_stride], for `rows` rows in all and the k elements that `order` is of.
template <class Words>
inline void pack_panels(float* to, const Panels& panels, const typename Words::Element* from, int64_t rows, int64_t k,
                        const Order& order, int64_t row_stride, int64_t k_stride) {
  constexpr int64_t kElements = Words::kElements;
  constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(typename Words::Element));
  if (row_stride == 1) {
    // All panels in one sweep, so that a row of memory is read once, from end to end. The pieces are too short for the
    // processor's own prefetcher.
    constexpr int64_t kAhead = 8 * kElements;  // rows
    for (int64_t word = 0; word < order.words(); word++, from += kElements * k_stride) {
      float* panel = to + order.place(word) * panels.lanes;
      const int64_t left = k - word * kElements;
      for (int64_t p = kAhead; p < min_of(left, kAhead + kElements); p++)
        for (int64_t i = 0; i < rows; i += kLine) __builtin_prefetch(from + p * k_stride + i, 0, 2);
      for (int64_t q = 0; q < rows; q += panels.rows, panel += panels.stride) {
        const int64_t here = left > 0 ? min_of(panels.rows, rows - q) : 0;
        for (int64_t i = 0; i < panels.lanes; i += kWidth)
          store(panel + i, i < here ? Words::along_rows(from + q + i, k_stride, left, here - i) : vf{});
      }
    }
    return;
  }
  for (int64_t q = 0; q < rows; q += panels.rows, to += panels.stride) {
    const int64_t here = min_of(panels.rows, rows - q);
    const auto* const panel = from + q * row_stride;
    if (k_stride == 1) {
      pack_transposed<Words>(to, panels.lanes, panel, here, k, order, row_stride);
      continue;
    }
    for (int64_t word = 0; word < order.words(); word++)
      for (int64_t i = 0; i < panels.lanes; i++) {
        const int64_t p = word * kElements;
        to[order.place(word) * panels.lanes + i] =
            i < here && p < k ? Words::one(panel + i * row_stride + p * k_stride, k_stride, k - p) : 0;
      }
  }
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
