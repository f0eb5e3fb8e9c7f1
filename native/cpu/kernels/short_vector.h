// Vectors of at most 256 bits, which with AVX-512 are half of one: for sums of few numbers by many, whose lanes have to
// be as few as the machine's loads of 256 bits allow (gemm_words.h, across.h).
#pragma once
#include "cpu/kernels/convert.h"

namespace heed::cpu::HEED_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int kShort = kWidth / 2;
typedef float vs __attribute__((vector_size(kShort * 4)));
typedef uint32_t vsu __attribute__((vector_size(kShort * 4)));

inline vs fma(vs a, vs b, vs c) { return (vs)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
inline vs load_short(const float* p) { return load_as<vs>(p); }
inline vs load_short(const f16* p) { return (vs)_mm256_cvtph_ps(load_as<__m128i>(p)); }
#else
constexpr int kShort = kWidth;
typedef vf vs;
typedef vu vsu;

template <class T>
inline vs load_short(const T* p) {
  return load(p);
}
#endif
#if defined(__AVX2__)
// One shuffle puts each element into the upper half of its lane, where conversion and shift would be two steps.
inline vs load_short(const bf16* p) {
  const __m256i places = _mm256_setr_epi8(-1, -1, 0, 1, -1, -1, 2, 3, -1, -1, 4, 5, -1, -1, 6, 7,  //
                                          -1, -1, 8, 9, -1, -1, 10, 11, -1, -1, 12, 13, -1, -1, 14, 15);
  return (vs)_mm256_shuffle_epi8(_mm256_broadcastsi128_si256(load_as<__m128i>(p)), places);
}
#endif

}  // namespace
}  // namespace heed::cpu::HEED_ISA
