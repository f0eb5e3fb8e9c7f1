// Packing for the matrix product: rows of an operand (columns of B are rows here) are cut into panels, each laid out
// [k][lanes] in f32, so that the micro-kernel reads both operands with stride one. Lanes past a panel's rows are zeros.
#pragma once
#include "cpu/kernels/gemm.h"
#include "cpu/kernels/transpose.h"

namespace heed::cpu::HEED_ISA {
namespace {

struct Panels {
  int64_t rows;    // of a panel
  int64_t lanes;   // rows, rounded up to whole vectors
  int64_t stride;  // from one panel to the next
};

// Rows that are contiguous in k: kWidth rows at a time, squares transposed in registers.
template <class T>
inline void pack_transposed(float* to, int64_t lanes, const T* from, int64_t rows, int64_t k, int64_t row_stride) {
  for (int64_t first = 0; first < lanes; first += kWidth, from += kWidth * row_stride) {
    const int64_t here = rows - first;
    for (int64_t p = 0; p < k; p += kWidth) {
      vf square[kWidth];
      if (here >= kWidth && p + kWidth <= k) {
#pragma GCC unroll 16
        for (int i = 0; i < kWidth; i++) square[i] = load(from + i * row_stride + p);
      } else {
        for (int i = 0; i < kWidth; i++) square[i] = i < here ? load_upto(from + i * row_stride + p, k - p) : vf{};
      }
      transpose_square(square);
      float* const d = to + p * lanes + first;
      if (p + kWidth <= k) {
#pragma GCC unroll 16
        for (int i = 0; i < kWidth; i++) store(d + i * lanes, square[i]);
      } else {
        for (int64_t i = 0; i < k - p; i++) store(d + i * lanes, square[i]);
      }
    }
  }
}

// Panel q, to[q · stride + p · lanes + i] = from[(q · panels.rows + i) · row_stride + p · k_stride], of `rows` rows in
// all.
template <class T>
inline void pack_panels(float* to, const Panels& panels, const T* from, int64_t rows, int64_t k, int64_t row_stride,
                        int64_t k_stride) {
  if (row_stride == 1) {
    // All panels in one sweep: a row of memory is read once, end to end.
    for (int64_t p = 0; p < k; p++, from += k_stride, to += panels.lanes) {
      float* panel = to;
      for (int64_t q = 0; q < rows; q += panels.rows, panel += panels.stride) {
        const int64_t here = min_of(panels.rows, rows - q);
        for (int64_t i = 0; i < panels.lanes; i += kWidth)
          store(panel + i, i < here ? load_upto(from + q + i, here - i) : vf{});
      }
    }
    return;
  }
  for (int64_t q = 0; q < rows; q += panels.rows, to += panels.stride) {
    const int64_t here = min_of(panels.rows, rows - q);
    const T* const panel = from + q * row_stride;
    if (k_stride == 1) {
      pack_transposed(to, panels.lanes, panel, here, k, row_stride);
      continue;
    }
    for (int64_t p = 0; p < k; p++)
      for (int64_t i = 0; i < panels.lanes; i++)
        to[p * panels.lanes + i] = i < here ? load_one(panel + i * row_stride + p * k_stride) : 0;
  }
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
