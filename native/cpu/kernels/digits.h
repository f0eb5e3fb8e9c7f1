// Cuts activations into signed bytes for AVX512-VNNI, which multiplies unsigned by signed bytes and adds in 32 bits,
// and for AVX2, which adds the products in 16 bits.
//
// The numbers of a group become integers with a common step: x = X · step, |X| < 2^23, where step is a power of two
// that the group's largest number determines. X is cut into signed bytes, its digits: X = d0 + 256 d1 + 65536 d2. Three
// digits represent numbers to 2^-23 of their group's largest, as precisely as sums of f32; two digits to 2^-15. With
// one digit the largest number is 127 steps, so that all numbers are represented to 2^-8 of it.
#pragma once
#include "cpu/kernels/gemm_quantized.h"

#if defined(__AVX2__)
#define HEED_DIGITS 1
#if defined(__AVX512F__)
#define HEED_INT8_DOT 1
#define HEED_INT8_TARGET __attribute__((target("avx512vnni")))
#endif

namespace heed::cpu::HEED_ISA {
namespace {

#if defined(__AVX512F__)
inline vi larger(vi a, vi b) { return (vi)_mm512_max_epi32((__m512i)a, (__m512i)b); }
inline int32_t largest_of(vi x) { return _mm512_reduce_max_epi32((__m512i)x); }
inline vi nearest_integers(vf x) { return (vi)_mm512_cvtps_epi32((__m512)x); }
// Stores kWidth digits as bytes.
inline void store_digits(int8_t* to, vi digits) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtepi32_epi8((__m512i)digits));
}
#else
inline vi larger(vi a, vi b) { return (vi)_mm256_max_epi32((__m256i)a, (__m256i)b); }
inline int32_t largest_of(vi x) {
  int32_t largest = x[0];
  for (int i = 1; i < kWidth; i++) largest = max_of(largest, x[i]);
  return largest;
}
inline vi nearest_integers(vf x) { return (vi)_mm256_cvtps_epi32((__m256)x); }
inline void store_digits(int8_t* to, vi digits) {
  const __m256i words = _mm256_packs_epi32((__m256i)digits, (__m256i)digits);
  const __m256i bytes = _mm256_packs_epi16(words, words);
  const int32_t halves[2] = {_mm256_extract_epi32(bytes, 0), _mm256_extract_epi32(bytes, 4)};
  __builtin_memcpy(to, halves, sizeof halves);
}
#endif

// Cuts numbers `first` to `end` of a into D digits each, as a group of n numbers, which is a multiple of kWidth: the
// others are 0. Calls put(k, digits), with the digits in 32-bit lanes, for vectors of numbers from k on. Returns the
// step, which is NaN if a number of the group is infinite or NaN.
template <int D, class Put>
inline float cut_group(const TensorView& a, int64_t first, int64_t end, int64_t n, const Put& put) {
  // The largest |x| by its bits: infinity and NaN are larger than any number.
  vi most{};
  for (int64_t k = first; k < end; k += kWidth) most = larger(most, (vi)load_floats(a, k, end - k) & set1i(0x7fffffff));
  const int32_t largest = largest_of(most);
  // Digits reach up to 127 · (1 + 256 + 65536), a little less than 2^23.
  const bool finite = largest < 0x7f800000;
  float scale = 0, step = NAN;
  if (finite && D == 1) {
    constexpr float kLeast = 0x1p-95f;  // numbers far below it become 0
    float most_float;
    __builtin_memcpy(&most_float, &largest, sizeof largest);
    step = max_of(most_float, kLeast) / 127;
    scale = 127 / max_of(most_float, kLeast);
  } else if (finite) {
    constexpr int kShift = 8 * D - 2;
    const int32_t exponent = max_of((largest + 0x20000) >> 23, 32);
    const auto power = [](int32_t e) { return ((vf)(set1i(e + 127) << 23))[0]; };
    scale = power(kShift - (exponent - 127));
    step = power(exponent - 127 - kShift);
  }
  for (int64_t k = 0; k < n; k += kWidth) {
    const int64_t left = end - first - k;
    const vf x = finite && left > 0 ? load_floats(a, first + k, left) : vf{};
    vi rest = nearest_integers(x * set1(scale)), digits[D];
    for (int d = 0; d < D; d++) {
      digits[d] = d == D - 1 ? rest : rest << 24 >> 24;
      rest = (rest - digits[d]) >> 8;
    }
    put(k, digits);
  }
  return step;
}

// Returns the number of digits of activations in so many bits: f16 and bf16 take two at most.
inline int64_t digits_of(const TensorView& a, int64_t bits) {
  return min_of<int64_t>(bits / 8, a.dtype == DType::f32 ? 3 : 2);
}

// Calls f with the number of digits as a constant.
template <class F>
inline void with_digits(int64_t digits, const F& f) {
  if (digits == 1) return f(std::integral_constant<int, 1>{});
  if (digits == 2) return f(std::integral_constant<int, 2>{});
#if defined(HEED_INT8_DOT)
  f(std::integral_constant<int, 3>{});
#endif
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
#endif
