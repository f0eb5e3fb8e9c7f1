// What the matrix product multiplies, and in which order it adds: the same in every form, for any number of rows.
//
// Operands become words of 32 bits: one element in f32, or two of bf16 that follow each other in k, where the machine
// multiplies those. K is cut into chains by its length alone. A chain is multiply-adds in the order of k that begin at
// 0, and an element of the result is the sum of its chains, one after the other. So the bits of a row depend neither on
// the rows beside it nor on the number of threads. Chains are short enough for threads to share few rows of B, and long
// enough for adding them up to cost many rows 1 % to 2 %.
#pragma once
#include "cpu/isa.h"
#include "cpu/kernels/gemm.h"
#include "cpu/kernels/short_vector.h"

namespace heed::cpu::HEED_ISA {
namespace {

enum class Word { f32, bf16_pair };

// sum + x · y, of pairs x₀ · y₀ + x₁ · y₁. The instruction is written out because the other functions of a file for
// AVX-512 must not use it, and GCC does not inline what may into what may not (isa.h, bf16_dot).
template <Word word, class V>
__attribute__((always_inline)) inline V multiply_add(V x, V y, V sum) {
  if constexpr (word == Word::f32) return fma(x, y, sum);
#if defined(__AVX512F__)
  asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(x), "v"(y));
#endif
  return sum;
}

// How words are read where k elements are left: `along_k` a vector of one row's, where these are contiguous,
// `along_rows` one of each of n contiguous rows, and a single one.
template <class T>
struct Singles {
  using Element = T;
  static constexpr Word kWord = Word::f32;
  static constexpr int kElements = 1;
  static vf along_k(const T* p, int64_t k) { return load_upto(p, k); }
  static vf along_rows(const T* p, int64_t, int64_t, int64_t n) { return load_upto(p, n); }
  static float one(const T* p, int64_t, int64_t) { return load_one(p); }
};

struct Pairs {
  using Element = bf16;
  static constexpr Word kWord = Word::bf16_pair;
  static constexpr int kElements = 2;
  static vf along_k(const bf16* p, int64_t k) {
    if (k >= 2 * kWidth) return load_as<vf>(p);
#if defined(__AVX512F__)
    return (vf)_mm512_maskz_loadu_epi16((__mmask32)((uint32_t{1} << k) - 1), p);
#endif
    uint16_t bits[2 * kWidth] = {};
    __builtin_memcpy(bits, p, static_cast<size_t>(k) * sizeof *p);
    return load_as<vf>(bits);
  }
  static vf along_rows(const bf16* p, int64_t k_stride, int64_t k, int64_t n) {
    const vi first = n >= kWidth ? widen(load_as<vu16>(p)) : (vi)((vu)load_n(p, n) >> 16);
    const vi second = k > 1 ? (vi)load_upto(p + k_stride, n) : vi{};
    return (vf)(first | second);
  }
  static float one(const bf16* p, int64_t k_stride, int64_t k) {
    const uint32_t bits = p->bits | (k > 1 ? static_cast<uint32_t>(p[k_stride].bits) << 16 : 0);
    float word;
    __builtin_memcpy(&word, &bits, sizeof word);
    return word;
  }
};

// The words of numbers in f32 that are first rounded to T, with the bits that a copy in T would give them.
template <class T>
struct RoundedSingles {
  using Element = float;
  static constexpr Word kWord = Word::f32;
  static constexpr int kElements = 1;
  static vf rounded(vf v) { return decode(T{}, encode(T{}, v)); }
  static vf along_k(const float* p, int64_t k) { return rounded(load_upto(p, k)); }
  static vf along_rows(const float* p, int64_t, int64_t, int64_t n) { return rounded(load_upto(p, n)); }
  static float one(const float* p, int64_t, int64_t) { return rounded(set1(*p))[0]; }
};

struct RoundedPairs {
  using Element = float;
  static constexpr Word kWord = Word::bf16_pair;
  static constexpr int kElements = 2;
  // The first n numbers at p, each in the upper half of its lane. What is in the lower half does not count.
  static vu upper(const float* p, int64_t n) {
    const vf v = n > 0 ? load_upto(p, n) : vf{};
    const vu x = (vu)v, rounded = x + 0x7fff + (x >> 16 & 1), quiet = x | 0x400000;
    return v == v ? rounded : quiet;
  }
  static vf along_k(const float* p, int64_t k) {
    const vu first = upper(p, k), second = upper(p + kWidth, k - kWidth);
#if defined(__AVX512F__)
    return (vf)upper_halves(first, second);
#else
    const vu16 both[] = {narrow(first >> 16), narrow(second >> 16)};
    return load_as<vf>(both);
#endif
  }
  static vf along_rows(const float* p, int64_t k_stride, int64_t k, int64_t n) {
    const vu first = upper(p, n), second = k > 1 ? upper(p + k_stride, n) : vu{};
    return (vf)(first >> 16 | (second & 0xffff0000u));
  }
  static float one(const float* p, int64_t k_stride, int64_t k) {
    const float two[] = {p[0], k > 1 ? p[k_stride] : 0};
    return along_k(two, 2)[0];
  }
};

// f(Words{}) with the kind of words that operands of a dtype become.
template <class F>
inline void with_words([[maybe_unused]] Word word, DType dtype, const F& f) {
#if defined(__AVX512F__)
  if (word == Word::bf16_pair) return f(Pairs{});
#endif
  with_float_type(dtype, [&](auto type) { f(Singles<decltype(type)>{}); });
}

// The same for an operand in f32 beside one in 16 bits.
template <class F>
inline void with_rounded_words([[maybe_unused]] Word word, DType dtype, const F& f) {
#if defined(__AVX512F__)
  if (word == Word::bf16_pair) return f(RoundedPairs{});
#endif
  if (dtype == DType::bf16) return f(RoundedSingles<bf16>{});
  f(RoundedSingles<f16>{});
}

// The same for an operand of a product whose operand a has the dtype `of_a`. Beside an a in f32, the numbers of a b in
// 16 bits are words of f32 as they are.
template <class F>
inline void with_operand_words(Word word, DType dtype, DType of_a, const F& f) {
  if (dtype == of_a || of_a == DType::f32) return with_words(word, dtype, f);
  with_rounded_words(word, of_a, f);
}

// f(words of a, words of b) for a product that does not round b.
template <class F>
inline void with_both_words(Word word, DType of_a, DType of_b, const F& f) {
  with_words(word, of_b, [&](auto words) {
    if constexpr (decltype(words)::kWord == Word::f32)
      if (of_a != of_b) return f(Singles<float>{}, words);
    f(words, words);
  });
}

// n cut into even parts of at most `most`: the size of a part.
inline int64_t even_part(int64_t n, int64_t most) { return n == 0 ? 1 : ceil_div(n, ceil_div(n, most)); }

struct Chains {
  static constexpr int64_t kSteps = 192;  // at most, of a chain
  static constexpr int64_t kLine = 16;    // words of a cache line, so that no two chains of a row share one

  Word word;
  int64_t elements;       // of k in a word
  int64_t length, count;  // `count` chains over `length` of k

  explicit Chains(const Problem& p)
      : word(p.a.data.dtype == DType::bf16 && bf16_dot() ? Word::bf16_pair : Word::f32),
        elements(word == Word::bf16_pair ? 2 : 1) {
    length = ceil_div(even_part(words(p.k), kSteps), kLine) * kLine * elements;
    count = max_of<int64_t>(1, ceil_div(p.k, length));
  }

  // Of k elements.
  int64_t words(int64_t k) const { return ceil_div(k, elements); }
};

}  // namespace
}  // namespace heed::cpu::HEED_ISA
