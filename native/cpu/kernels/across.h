// kWidth rows, each contiguous in memory, read as vectors across the rows: lane i is row i's. So a vector of sums is
// one chain of multiply-adds for each row, in the order of its elements: the sums of tiles (gemm_micro.h,
// attention_tile.h), for rows of which only few products are wanted.
//
// Four words of 32 bits of four rows (AVX-512) make a vector, and four vectors are transposed within their 128 bits:
// half of the shuffles that whole squares take.
#pragma once
#include "cpu/kernels/convert.h"
#include "cpu/kernels/interleave.h"

namespace heed::cpu::HEED_ISA {
namespace {

constexpr int kAcross = 4;  // words of 32 bits at a time

// a0 b0 a1 b1 (a2 b2 a3 b3) of each 128 bits.
inline vf unpack_low(vf a, vf b) {
#if defined(__AVX512F__)
  return (vf)_mm512_unpacklo_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
  return (vf)_mm256_unpacklo_ps((__m256)a, (__m256)b);
#else
  return interleave_low(a, b);
#endif
}
inline vf unpack_high(vf a, vf b) {
#if defined(__AVX512F__)
  return (vf)_mm512_unpackhi_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
  return (vf)_mm256_unpackhi_ps((__m256)a, (__m256)b);
#else
  return interleave_high(a, b);
#endif
}

// Rows of T that are as far apart from each other, as a function of a row. A processor has too few registers for a
// pointer to each, which compilers would make and keep in memory; from one place on, these are four and three distances.
template <class T>
struct EvenRows {
  const T* first;
  int64_t apart;

  const T* operator()(int i) const { return first + i * apart; }
  auto from(int64_t k) const {
    int64_t one = apart * static_cast<int64_t>(sizeof(T));
    __asm__("" : "+r"(one));  // from here on, so that nothing is kept from one place to the next
    const char* const row = reinterpret_cast<const char*>(first + k);
    const char *const second = row + one, *const third = second + one, *const fourth = third + one;
    const int64_t four = 4 * one;
    return [=](int i) {
      const char* const of_four = i % 4 == 0 ? row : i % 4 == 1 ? second : i % 4 == 2 ? third : fourth;
      return reinterpret_cast<const T*>(of_four + i / 4 * four);
    };
  }
};
template <class T>
inline auto rows_from(const EvenRows<T>& rows, int64_t k) {
  return rows.from(k);
}
template <class Row>
inline auto rows_from(const Row& row, int64_t k) {
  return [&row, k](int i) { return row(i) + k; };
}

// The four words of rows i, i + 4, i + 8, …; row(i) is where row i's are.
template <class Row>
inline vf words_of_rows(const Row& row, int i) {
  const auto at = [&](int r) { return reinterpret_cast<const float*>(row(r)); };
#if defined(__AVX512F__)
  __m512 words = _mm512_castps128_ps512(_mm_loadu_ps(at(i)));
  words = _mm512_mask_broadcast_f32x4(words, 0x00f0, _mm_loadu_ps(at(i + 4)));
  words = _mm512_mask_broadcast_f32x4(words, 0x0f00, _mm_loadu_ps(at(i + 8)));
  return (vf)_mm512_mask_broadcast_f32x4(words, 0xf000, _mm_loadu_ps(at(i + 12)));
#elif defined(__AVX2__)
  return (vf)_mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(at(i))), _mm_loadu_ps(at(i + 4)), 1);
#else
  return load(at(i));
#endif
}

// words[q] = word q of every row.
template <class Row>
inline void load_words(vf (&words)[kAcross], const Row& row) {
  vf x[kAcross];
#pragma GCC unroll 4
  for (int i = 0; i < kAcross; i++) x[i] = words_of_rows(row, i);
  const vf even = unpack_low(x[0], x[2]), odd = unpack_low(x[1], x[3]);
  words[0] = unpack_low(even, odd);
  words[1] = unpack_high(even, odd);
  const vf even_high = unpack_high(x[0], x[2]), odd_high = unpack_high(x[1], x[3]);
  words[2] = unpack_low(even_high, odd_high);
  words[3] = unpack_high(even_high, odd_high);
}

#if defined(__AVX512F__) || (defined(__AVX2__) && defined(__F16C__))
constexpr bool kTransposesHalves = true;
#if defined(__AVX512F__)
using HalfRows = __m256i;  // a row of 8 elements, and the row kWidth / 2 further on
template <class Row>
inline HalfRows half_rows(const Row& row, int i) {
  const auto at = [&](int r) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(row(r))); };
  return _mm256_inserti128_si256(_mm256_castsi128_si256(at(i)), at(i + 8), 1);
}
inline HalfRows low_16(HalfRows a, HalfRows b) { return _mm256_unpacklo_epi16(a, b); }
inline HalfRows high_16(HalfRows a, HalfRows b) { return _mm256_unpackhi_epi16(a, b); }
inline HalfRows low_32(HalfRows a, HalfRows b) { return _mm256_unpacklo_epi32(a, b); }
inline HalfRows high_32(HalfRows a, HalfRows b) { return _mm256_unpackhi_epi32(a, b); }
inline HalfRows low_64(HalfRows a, HalfRows b) { return _mm256_unpacklo_epi64(a, b); }
inline HalfRows high_64(HalfRows a, HalfRows b) { return _mm256_unpackhi_epi64(a, b); }
inline vf floats_of(HalfRows x) { return (vf)_mm512_cvtph_ps(x); }
#else
using HalfRows = __m128i;
template <class Row>
inline HalfRows half_rows(const Row& row, int i) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(row(i)));
}
inline HalfRows low_16(HalfRows a, HalfRows b) { return _mm_unpacklo_epi16(a, b); }
inline HalfRows high_16(HalfRows a, HalfRows b) { return _mm_unpackhi_epi16(a, b); }
inline HalfRows low_32(HalfRows a, HalfRows b) { return _mm_unpacklo_epi32(a, b); }
inline HalfRows high_32(HalfRows a, HalfRows b) { return _mm_unpackhi_epi32(a, b); }
inline HalfRows low_64(HalfRows a, HalfRows b) { return _mm_unpacklo_epi64(a, b); }
inline HalfRows high_64(HalfRows a, HalfRows b) { return _mm_unpackhi_epi64(a, b); }
inline vf floats_of(HalfRows x) { return (vf)_mm256_cvtph_ps(x); }
#endif

// elements[k] = element k of every row, as floats, of 8 elements of f16. Squares of 8 · 8 are transposed as they are,
// before they become floats of twice the size.
template <class Row>
inline void load_halves(vf (&elements)[8], const Row& row) {
  HalfRows pairs[8], fours[8];
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    const HalfRows even = half_rows(row, i), odd = half_rows(row, i + 1);
    pairs[i] = low_16(even, odd);
    pairs[i + 1] = high_16(even, odd);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) {  // elements 0 to 3, or 4 to 7, of rows 0 to 3, or 4 to 7
    const int first = i / 2 * 4 + i % 2;
    fours[2 * i] = low_32(pairs[first], pairs[first + 2]);
    fours[2 * i + 1] = high_32(pairs[first], pairs[first + 2]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) {
    elements[2 * i] = floats_of(low_64(fours[i], fours[i + 4]));
    elements[2 * i + 1] = floats_of(high_64(fours[i], fours[i + 4]));
  }
}
#else
constexpr bool kTransposesHalves = false;
template <class Row>
inline void load_halves(vf (&)[8], const Row&) {}
#endif

// Both elements of words in 16 bits, as floats.
inline void split(bf16, vf words, vf* both) {
  both[0] = (vf)((vu)words << 16);
  both[1] = (vf)((vu)words & 0xffff0000u);
}
inline void split(f16, vf words, vf* both) {
  both[0] = decode(f16{}, narrow((vu)words & 0xffffu));
  both[1] = decode(f16{}, narrow((vu)words >> 16));
}

// How rows of T are read: `kTerms` neighbours a step, of f32 one, of 16 bits one as a float or two as the pair they
// are.
template <class T, int terms>
struct Across {
  static constexpr int kTerms = terms;
  static constexpr int kSteps = kAcross * 4 / static_cast<int>(sizeof(T)) / terms;  // at a time
  static constexpr int64_t kElements = kSteps * terms;

  template <class Row>
  static void load(vf (&steps)[kSteps], const Row& row) {
    if constexpr (kSteps == kAcross) return load_words(steps, row);
    if constexpr (kSteps == 8 && kTransposesHalves && std::is_same_v<T, f16>) return load_halves(steps, row);
    vf words[kAcross];
    load_words(words, row);
#pragma GCC unroll 4
    for (int q = 0; q < kAcross; q++)
      if constexpr (kSteps > kAcross) split(T{}, words[q], steps + 2 * q);
  }

  // sum[r] = sum[r] + Σ x(r, k, …) · row(i)[k] for k in [begin, end), lane i; multiply_add(x, y, sum) of one step's
  // terms, of which x(r, k, left) is the word from k on, with `left` elements there. `next` is null, or what the caller
  // reads afterwards, of which as much is asked for as is read here.
  template <int R, class X, class Row, class MultiplyAdd>
  static inline __attribute__((always_inline)) void chains(int64_t begin, int64_t end, const X& x, const Row& row,
                                                           const char* next, vf (&sum)[R],
                                                           const MultiplyAdd& multiply_add) {
    const auto add = [&](int64_t k, int64_t left, const auto& here) {
      vf steps[kSteps];
      load(steps, here);
#pragma GCC unroll 8
      for (int q = 0; q < kSteps; q++) {
        if (q * kTerms >= left) break;
#pragma GCC unroll 8
        for (int r = 0; r < R; r++)
          sum[r] = multiply_add(set1(x(r, k + q * kTerms, left - q * kTerms)), steps[q], sum[r]);
      }
    };
    int64_t k = begin;
    for (; k + kElements <= end; k += kElements) {
      if (next) {
#pragma GCC unroll 4
        for (int line = 0; line < kWidth / 4; line++) __builtin_prefetch(next + line * 64, 0, 2);
        next += kWidth * 16;
      }
      add(k, kElements, rows_from(row, k));
    }
    if (k >= end) return;
    T rest[kWidth][kElements] = {};
    for (int i = 0; i < kWidth; i++) __builtin_memcpy(rest[i], row(i) + k, static_cast<size_t>(end - k) * sizeof(T));
    add(k, end - k, [&](int i) { return rest[i]; });
  }
};

}  // namespace
}  // namespace heed::cpu::HEED_ISA
