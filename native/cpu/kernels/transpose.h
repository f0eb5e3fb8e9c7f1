// Transposes a square of vectors in registers.
#pragma once
#include "cpu/kernels/interleave.h"

namespace heed::cpu::HEED_ISA {
namespace {

// Interleaving vectors i and i + kWidth/2 rotates the bits of an element's place, (row, lane) as one number, by one to
// the left; log2 kWidth rotations exchange row and lane.
inline void transpose(vf (&x)[kWidth]) {
#pragma GCC unroll 4
  for (int turn = kWidth; turn > 1; turn /= 2) {
    vf y[kWidth];
#pragma GCC unroll 8
    for (int i = 0; i < kWidth / 2; i++) {
      y[2 * i] = interleave_low(x[i], x[i + kWidth / 2]);
      y[2 * i + 1] = interleave_high(x[i], x[i + kWidth / 2]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kWidth; i++) x[i] = y[i];
  }
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
