// Attention's products multiply words of 32 bits. A word is one f32 or, if bf16 has instructions of its own, two bf16
// that are neighbours along the dimension that is summed. So tiles have the same shape in both cases, with half as many
// words along that dimension, and code that only moves words need not know which they are. Tensors of f16, and of bf16
// without such instructions, become words of f32 here.
#pragma once
#include "cpu/isa.h"
#include "cpu/kernels/attention_mask.h"
#include "cpu/kernels/key_codes.h"
#include "cpu/kernels/short_vector.h"

namespace heed::cpu::HEED_ISA {
namespace {

struct F32Words {
  static constexpr int64_t kTerms = 1;  // terms of a sum in one word
  static vf broadcast(const float* word) { return set1(*word); }
  template <class V>
  static V multiply_add(V a, V b, V sum) {
    return fma(a, b, sum);
  }
  // The queries already include the factor of scores. On bf16 queries it would be rounded, so there it multiplies their
  // products.
  static vf scale_words(vf words, float factor) { return words * set1(factor); }
  template <class V>
  static V scale_sum(V sum, float) {
    return sum;
  }
};

#if defined(__AVX512F__)
// The instructions are written in assembly: the compiler offers them only in functions for AVX512-BF16, and templates
// and lambdas that other code shares cannot be such functions.
struct Bf16Words {
  static constexpr int64_t kTerms = 2;
  static vf broadcast(const float* word) {
    int32_t bits;
    __builtin_memcpy(&bits, word, sizeof bits);
    return (vf)set1i(bits);
  }
  template <class V>
  static V multiply_add(V a, V b, V sum) {
    __asm__("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
    return sum;
  }
  static vf scale_words(vf words, float) { return words; }
  template <class V>
  static V scale_sum(V sum, float factor) {
    return sum * factor;
  }
  // Loads the first n bf16, at most a vector, followed by zeros.
  static vf read(const void* p, int64_t n) {
    return n < 2 * kWidth ? (vf)_mm512_maskz_loadu_epi16((1u << n) - 1, p) : (vf)_mm512_loadu_si512(p);
  }
  // Loads the first n elements of each row, at most a vector, as words of two.
  static vf pair(const bf16* first, const bf16* second, int64_t n) {
    const __mmask16 lanes = n < kWidth ? static_cast<__mmask16>((1u << n) - 1) : static_cast<__mmask16>(-1);
    const __m512i low = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(lanes, first));
    const __m512i high = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(lanes, second));
    return (vf)_mm512_or_si512(low, _mm512_slli_epi32(high, 16));
  }
  // round() puts both vectors, rounded to bf16, one after the other; the next function merges them lane by lane into
  // words.
  static vf round(vf first, vf second) {
    vf both;
    __asm__("vcvtne2ps2bf16 %1, %2, %0" : "=v"(both) : "v"(first), "v"(second));
    return both;
  }
  static vf round_pairs(vf first, vf second) {
    const __m512i lanes = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                                           21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return (vf)_mm512_permutexvar_epi16(lanes, (__m512i)round(first, second));
  }
};
#endif

// Calls f(words) with the kind of words that tensors of a dtype become.
inline bool has_bf16_words(DType dtype) { return dtype == DType::bf16 && bf16_dot(); }
template <class F>
inline void with_words(bool bf16_words, const F& f) {
#if defined(__AVX512F__)
  if (bf16_words) return f(Bf16Words{});
#else
  static_cast<void>(bf16_words);
#endif
  f(F32Words{});
}

// Loads or stores the first n elements, at most a vector; the other lanes read as zero and are not written.
template <class T>
inline vf read(const T* p, int64_t n) {
  return n < kWidth ? load_n(p, n) : load(p);
}
#if defined(__AVX512F__)
// GCC splits the general conversion into halves.
inline vf read(const bf16* p, int64_t n) {
  const __mmask16 lanes = n < kWidth ? static_cast<__mmask16>((1u << n) - 1) : static_cast<__mmask16>(-1);
  return (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(lanes, p)), 16);
}
#endif
template <class T>
inline void write(T* p, vf v, int64_t n) {
  if (n < kWidth)
    store_n(p, v, n);
  else
    store(p, v);
}

// Return the number of words in a row of D elements, and that number rounded up to whole vectors.
template <class Words>
inline int64_t words_of(int64_t D) {
  return ceil_div(D, Words::kTerms);
}
template <class Words>
inline int64_t padded_words(int64_t D) {
  return ceil_div(words_of<Words>(D), kWidth) * kWidth;
}

// Loads the words of a row from the d-th on, at most a vector, with zeros beyond D.
template <class Words>
inline vf read_words(const char* row, DType dtype, int64_t d, int64_t D) {
  if constexpr (Words::kTerms > 1) return Words::read(row + d * 4, D - d * Words::kTerms);
  vf words;
  with_float_type(dtype,
                  [&](auto element) { words = read(reinterpret_cast<const decltype(element)*>(row) + d, D - d); });
  return words;
}

template <class Words>
inline vf read_words(const CodedRow& row, DType dtype, int64_t d, int64_t D) {
  if constexpr (Words::kTerms > 1) return Words::round(row.read(2 * d, D), row.read(2 * d + kWidth, D));
  return rounded_to(dtype, row.read(d, D));
}

// Loads elements of two rows from the d-th on, at most a vector, as words of both, with zeros beyond D and for no row.
template <class Words>
inline vf pair_words(const char* first, const char* second, int64_t d, int64_t D) {
  const bf16 zeros[kWidth] = {};
  const auto at = [&](const char* row) { return row ? reinterpret_cast<const bf16*>(row) + d : zeros; };
  return Words::pair(at(first), at(second), D - d);
}
template <class Words>
inline vf pair_words(const CodedRow& first, const CodedRow& second, int64_t d, int64_t D) {
  return Words::round_pairs(first ? first.read(d, D) : vf{}, second ? second.read(d, D) : vf{});
}

// out[n, padded_words] = n rows of D elements as words along them. row(i) may be none, which stands for zeros; zero
// rows follow up to a whole number of terms.
template <class Words, class Row>
inline void pack_rows(float* out, int64_t n, DType dtype, int64_t D, const Row& row) {
  const int64_t width = padded_words<Words>(D);
  for (int64_t i = 0; i < ceil_div(n, Words::kTerms) * Words::kTerms; i++, out += width) {
    const auto from = i < n ? row(i) : decltype(row(i)){};
    if (!from)
      __builtin_memset(out, 0, static_cast<size_t>(width) * 4);
    else
      for (int64_t d = 0; d < width; d += kWidth) store(out + d, read_words<Words>(from, dtype, d, D));
  }
}

// out[words_of(n), width] = the same rows as words across them; width is the whole vectors that D elements fill.
template <class Words, class Row>
inline void pack_across(float* out, int64_t n, DType dtype, int64_t D, const Row& row) {
  if constexpr (Words::kTerms == 1) {
    pack_rows<Words>(out, n, dtype, D, row);
  } else {
    const int64_t width = ceil_div(D, kWidth) * kWidth;
    for (int64_t i = 0; i < n; i += 2, out += width) {
      const auto first = row(i), second = i + 1 < n ? row(i + 1) : decltype(row(i)){};
      for (int64_t d = 0; d < D; d += kWidth) store(out + d, pair_words<Words>(first, second, d, D));
    }
  }
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
