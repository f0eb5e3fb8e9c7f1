// Merges two vectors element by element.
#pragma once
#include "cpu/kernels/kernel.h"

namespace heed::cpu::HEED_ISA {
namespace {

// Elements of a, and after those of b, by their indices. GCC 11 knows it by another name.
#if defined(__clang__) || __GNUC__ >= 12
#define HEED_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define HEED_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, vu{__VA_ARGS__})
#endif

// a0 b0 a1 b1 … of the lower (or upper) halves.
inline vu interleave_low(vu a, vu b) {
#if defined(__AVX512F__)
  return HEED_SHUFFLE(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
#elif defined(__AVX2__)
  return HEED_SHUFFLE(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
#else
  return HEED_SHUFFLE(a, b, 0, 4, 1, 5);
#endif
}
inline vu interleave_high(vu a, vu b) {
#if defined(__AVX512F__)
  return HEED_SHUFFLE(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
#elif defined(__AVX2__)
  return HEED_SHUFFLE(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
#else
  return HEED_SHUFFLE(a, b, 2, 6, 3, 7);
#endif
}

#undef HEED_SHUFFLE

inline vf interleave_low(vf a, vf b) { return (vf)interleave_low((vu)a, (vu)b); }
inline vf interleave_high(vf a, vf b) { return (vf)interleave_high((vu)a, (vu)b); }

}  // namespace
}  // namespace heed::cpu::HEED_ISA
