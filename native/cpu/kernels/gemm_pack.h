// Packing for the matrix product: rows of an operand (columns of B are rows here) are cut into panels, each laid out
// [step of k][lanes] in words (gemm_words.h), so that the micro-kernel reads both operands with
// stride one. Lanes past a panel's rows are finite wherever the rows are, and their products are not wanted.
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

// Rows that are contiguous in k: kWidth rows at a time, squares transposed in registers. The last row stands for those
// that do not exist.
template <class Words>
inline void pack_transposed(float* to, int64_t lanes, const typename Words::Element* from, int64_t rows, int64_t k,
                            int64_t row_stride) {
  constexpr int64_t kStep = kWidth * Words::kElements;
  for (int64_t first = 0; first < lanes; first += kWidth) {
    const typename Words::Element* row[kWidth];
    for (int i = 0; i < kWidth; i++) row[i] = from + min_of(first + i, rows - 1) * row_stride;
    float* d = to + first;
    vf square[kWidth];
    int64_t p = 0;
    for (; p + kStep <= k; p += kStep, d += kWidth * lanes) {
#pragma GCC unroll 16
      for (int i = 0; i < kWidth; i++) square[i] = Words::along_k(row[i] + p, kStep);
      transpose(square);
#pragma GCC unroll 16
      for (int i = 0; i < kWidth; i++) store(d + i * lanes, square[i]);
    }
    if (p == k) continue;
    for (int i = 0; i < kWidth; i++) square[i] = Words::along_k(row[i] + p, k - p);
    transpose(square);
    for (int64_t i = 0; p + i * Words::kElements < k; i++) store(d + i * lanes, square[i]);
  }
}

// Packs panel q: to[q · stride + p · lanes + i] = word p of row q · panels.rows + i of `from`, for `rows` rows in all
// and k elements.
template <class Words>
inline void pack_panels(float* to, const Panels& panels, const typename Words::Element* from, int64_t rows, int64_t k,
                        int64_t row_stride, int64_t k_stride) {
  constexpr int64_t kElements = Words::kElements;
  constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(typename Words::Element));
  if (row_stride == 1) {
    // All panels in one sweep, so that a row of memory is read once, from end to end. The pieces are too short for the
    // processor's own prefetcher.
    constexpr int64_t kAhead = 8 * kElements;  // rows
    for (int64_t left = k; left > 0; left -= kElements, from += kElements * k_stride, to += panels.lanes) {
      float* panel = to;
      for (int64_t p = kAhead; p < min_of(left, kAhead + kElements); p++)
        for (int64_t i = 0; i < rows; i += kLine) __builtin_prefetch(from + p * k_stride + i, 0, 2);
      for (int64_t q = 0; q < rows; q += panels.rows, panel += panels.stride) {
        const int64_t here = min_of(panels.rows, rows - q);
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
      pack_transposed<Words>(to, panels.lanes, panel, here, k, row_stride);
      continue;
    }
    for (int64_t p = 0; p < k; p += kElements)
      for (int64_t i = 0; i < panels.lanes; i++)
        to[p / kElements * panels.lanes + i] =
            i < here ? Words::one(panel + i * row_stride + p * k_stride, k_stride, k - p) : 0;
  }
}

// The same for an operand of a product whose operand a has the dtype `of_a`.
inline void pack_operand(Word word, DType of_a, float* to, const Panels& panels, Floats from, int64_t rows, int64_t k,
                         int64_t row_stride, int64_t k_stride) {
  with_operand_words(word, from.dtype, of_a, [&](auto words) {
    using Words = decltype(words);
    pack_panels<Words>(to, panels, from.as<typename Words::Element>(), rows, k, row_stride, k_stride);
  });
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
