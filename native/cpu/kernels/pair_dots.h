// Exact products of unsigned codes and signed digits (digits.h) with AVX2, which multiplies bytes or numbers of 16 bits
// and adds pairs of products.
//
// With one digit, pairs of products of bytes are added in 16 bits, where larger sums would become 32767 without a word.
// A pair is at most 2 · 127 · code, so that codes of up to 7 bits fit: kPairSums<code> is how many such sums may be
// added before they are widened.
//
// With two digits, d0 + 256 d1 is one number X of 16 bits and pairs are added in 32 bits, for any code. Bytes become
// numbers of 16 bits by a mask and a shift, which take the even and the odd ones of them; numbers are therefore stored
// so: the even ones of 64 and then the odd ones.
#pragma once
#include "cpu/kernels/digits.h"
#include "cpu/kernels/in_loop.h"

#if defined(HEED_DIGITS) && !defined(HEED_INT8_DOT)

namespace heed::cpu::HEED_ISA {
namespace {

template <int most>
constexpr int kPairSums = 32767 / (2 * 127 * most);

// Stores kWidth numbers of 16 bits: the even ones and the odd ones.
HEED_IN_LOOP void store_pairs(int8_t* even, int8_t* odd, vi numbers) {
  const __m256i words = _mm256_packs_epi32((__m256i)numbers, (__m256i)numbers);
  const __m256i order = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 4, 5, 2, 3, 6, 7, 0, 1, 4, 5, 2, 3, 6, 7));
  // Two even numbers and two odd ones in each half.
  const __m256i twos = _mm256_shuffle_epi8(words, order);
  const __m128i both =
      _mm256_castsi256_si128(_mm256_permutevar8x32_epi32(twos, _mm256_setr_epi32(0, 4, 1, 5, 0, 4, 1, 5)));
  const int64_t halves[2] = {_mm_cvtsi128_si64(both), _mm_extract_epi64(both, 1)};
  __builtin_memcpy(even, halves, sizeof *halves);
  __builtin_memcpy(odd, halves + 1, sizeof *halves);
}

// What belongs to 32 numbers: their digits, or the even and the odd ones of them in 16 bits.
template <int D>
struct DigitVectors {
  __m256i of[D];
};
template <int D>
HEED_IN_LOOP DigitVectors<D> load_digits(const int8_t (&digits)[D][64], int at) {
  DigitVectors<D> loaded;
#pragma GCC unroll 2
  for (int d = 0; d < D; d++) loaded.of[d] = _mm256_load_si256(reinterpret_cast<const __m256i*>(digits[d] + at));
  return loaded;
}

HEED_IN_LOOP __m256i even_codes(__m256i codes) { return _mm256_and_si256(codes, _mm256_set1_epi16(255)); }
HEED_IN_LOOP __m256i odd_codes(__m256i codes) { return _mm256_srli_epi16(codes, 8); }
// Adds pairs of 16 bits in 32.
HEED_IN_LOOP __m256i widened_pairs(__m256i pairs) { return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)); }

// Products of 32 codes with 32 numbers, four in a lane.
template <int D>
HEED_IN_LOOP __m256i dots_of_fours(__m256i codes, const DigitVectors<D>& digits) {
  if constexpr (D == 1) return widened_pairs(_mm256_maddubs_epi16(codes, digits.of[0]));
  return _mm256_add_epi32(_mm256_madd_epi16(even_codes(codes), digits.of[0]),
                          _mm256_madd_epi16(odd_codes(codes), digits.of[D - 1]));
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
#endif
