// Squares of vectors, transposed in registers.
#pragma once
#include "cpu/kernels/kernel.h"

namespace heed::cpu::HEED_ISA {
namespace {

// a0 b0 a1 b1 … of the lower (upper) halves.
inline vf interleave_lower(vf a, vf b) {
#if defined(__AVX512F__)
  return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
#elif defined(__AVX2__)
  return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
#else
  return __builtin_shufflevector(a, b, 0, 4, 1, 5);
#endif
}
inline vf interleave_upper(vf a, vf b) {
#if defined(__AVX512F__)
  return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
#elif defined(__AVX2__)
  return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
#else
  return __builtin_shufflevector(a, b, 2, 6, 3, 7);
#endif
}

// Interleaving vectors i and i + kWidth/2 turns the bits of an element's place, (row, lane) as one number, by one to
// the left; log2 kWidth turns exchange row and lane.
inline void transpose_square(vf (&x)[kWidth]) {
#pragma GCC unroll 4
  for (int turn = kWidth; turn > 1; turn /= 2) {
    vf y[kWidth];
#pragma GCC unroll 8
    for (int i = 0; i < kWidth / 2; i++) {
      y[2 * i] = interleave_lower(x[i], x[i + kWidth / 2]);
      y[2 * i + 1] = interleave_upper(x[i], x[i + kWidth / 2]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kWidth; i++) x[i] = y[i];
  }
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
