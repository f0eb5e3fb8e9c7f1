// Packing for the matrix product: rows of an operand are cut into panels of R and laid out [k][R], so that the
// micro-kernel reads both operands with stride one. Missing rows of the last panel are zeros.
#pragma once
#include "cpu/kernels/kernel.h"

namespace heed::cpu::HEED_ISA {
namespace {

typedef float v4 __attribute__((vector_size(16)));
typedef int32_t i4 __attribute__((vector_size(16)));

// Rows that are contiguous in k: 4 × 4 blocks, transposed in registers.
template <int R>
inline void pack_transposed(float* to, const float* from, int64_t rows, int64_t k, int64_t row_stride) {
  int64_t i = 0;
  for (; i + 4 <= rows; i += 4) {
    const float* const s0 = from + i * row_stride;
    const float *const s1 = s0 + row_stride, *const s2 = s1 + row_stride, *const s3 = s2 + row_stride;
    float* d = to + i;
    int64_t p = 0;
    for (; p + 4 <= k; p += 4, d += 4 * R) {
      v4 a, b, c, e;
      std::memcpy(&a, s0 + p, 16);
      std::memcpy(&b, s1 + p, 16);
      std::memcpy(&c, s2 + p, 16);
      std::memcpy(&e, s3 + p, 16);
#if defined(__clang__)
      const v4 ab0 = __builtin_shufflevector(a, b, 0, 4, 1, 5), ab1 = __builtin_shufflevector(a, b, 2, 6, 3, 7);
      const v4 ce0 = __builtin_shufflevector(c, e, 0, 4, 1, 5), ce1 = __builtin_shufflevector(c, e, 2, 6, 3, 7);
      const v4 r0 = __builtin_shufflevector(ab0, ce0, 0, 1, 4, 5), r1 = __builtin_shufflevector(ab0, ce0, 2, 3, 6, 7);
      const v4 r2 = __builtin_shufflevector(ab1, ce1, 0, 1, 4, 5), r3 = __builtin_shufflevector(ab1, ce1, 2, 3, 6, 7);
#else
      const v4 ab0 = __builtin_shuffle(a, b, i4{0, 4, 1, 5}), ab1 = __builtin_shuffle(a, b, i4{2, 6, 3, 7});
      const v4 ce0 = __builtin_shuffle(c, e, i4{0, 4, 1, 5}), ce1 = __builtin_shuffle(c, e, i4{2, 6, 3, 7});
      const v4 r0 = __builtin_shuffle(ab0, ce0, i4{0, 1, 4, 5}), r1 = __builtin_shuffle(ab0, ce0, i4{2, 3, 6, 7});
      const v4 r2 = __builtin_shuffle(ab1, ce1, i4{0, 1, 4, 5}), r3 = __builtin_shuffle(ab1, ce1, i4{2, 3, 6, 7});
#endif
      std::memcpy(d, &r0, 16);
      std::memcpy(d + R, &r1, 16);
      std::memcpy(d + 2 * R, &r2, 16);
      std::memcpy(d + 3 * R, &r3, 16);
    }
    for (; p < k; p++, d += R) {
      d[0] = s0[p];
      d[1] = s1[p];
      d[2] = s2[p];
      d[3] = s3[p];
    }
  }
  for (; i < rows; i++)
    for (int64_t p = 0; p < k; p++) to[p * R + i] = from[i * row_stride + p];
}

// One panel: to[p][i] = from[i · row_stride + p · k_stride] for i < rows, 0 for the others up to R.
template <int R>
inline void pack_panel(float* to, const float* from, int64_t rows, int64_t k, int64_t row_stride, int64_t k_stride) {
  if (rows < R) std::memset(to, 0, static_cast<size_t>(k * R) * sizeof(float));
  if (k_stride == 1) {
    pack_transposed<R>(to, from, rows, k, row_stride);
  } else if (row_stride == 1 && rows == R) {
    for (int64_t p = 0; p < k; p++) std::memcpy(to + p * R, from + p * k_stride, R * sizeof(float));
  } else {
    for (int64_t p = 0; p < k; p++)
      for (int64_t i = 0; i < rows; i++) to[p * R + i] = from[i * row_stride + p * k_stride];
  }
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
