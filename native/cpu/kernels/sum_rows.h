// out[c] (+)= Σ_r x[r, c], for any strides and float dtypes: the gradient of a bias.
//
// It has two stages, so that the order of summation does not depend on the number of threads: each fixed chunk of rows
// is summed into a row of its own, and then the chunks are added in order, column by column.
#pragma once
#include "cpu/kernels/gemm.h"

namespace heed::cpu::HEED_ISA {
namespace {

// sums[c] = Σ_r x[r, c], with one loop for contiguous rows, one for contiguous columns, and one for all other layouts.
template <class T>
inline void sum_chunk(float* sums, const T* x, int64_t rows, int64_t width, int64_t row_stride, int64_t column_stride) {
  if (column_stride == 1) {
    std::memset(sums, 0, static_cast<size_t>(width) * sizeof(float));
    for (int64_t r = 0; r < rows; r++, x += row_stride)
      for (int64_t c = 0; c < width; c += kWidth)
        store_upto(sums + c, load_upto(sums + c, width - c) + load_upto(x + c, width - c), width - c);
    return;
  }
  for (int64_t c = 0; c < width; c++, x += column_stride) {
    vf lanes{};
    float rest = 0;
    if (row_stride == 1)
      for (int64_t r = 0; r < rows; r += kWidth) lanes = lanes + load_upto(x + r, rows - r);
    else
      for (int64_t r = 0; r < rows; r++) rest += load_one(x + r * row_stride);
    sums[c] = hsum(lanes) + rest;
  }
}

inline void sum_rows(Stream& stream, const char* op, Floats out, Floats x, int64_t rows, int64_t width,
                     int64_t row_stride, int64_t column_stride, bool accumulate) {
  if (width == 0) return;
  constexpr int64_t kChunk = 128;
  const int64_t chunks = max_of<int64_t>(1, ceil_div(rows, kChunk));
  const Stream::Workspace partial(stream, op, static_cast<size_t>(chunks * width) * sizeof(float));
  stream.launch(op, [=, sums = partial.f32()] {
    parallel_for(chunks, 1, [&](int64_t begin, int64_t end) {
      for (int64_t chunk = begin; chunk < end; chunk++)
        (x + chunk * kChunk * row_stride).visit([&](const auto* first) {
          sum_chunk(sums + chunk * width, first, min_of(kChunk, rows - chunk * kChunk), width, row_stride,
                    column_stride);
        });
    });
    parallel_for(width, 4096, [&](int64_t begin, int64_t end) {
      out.visit([&](auto* result) {
        for (int64_t c = begin; c < end; c++) {
          double total = accumulate ? static_cast<double>(load_one(result + c)) : 0;
          for (int64_t chunk = 0; chunk < chunks; chunk++) total += static_cast<double>(sums[chunk * width + c]);
          store_one(result + c, static_cast<float>(total));
        }
      });
    });
  });
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
