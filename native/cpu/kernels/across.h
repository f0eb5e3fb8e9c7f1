// Rows, each contiguous in memory, read as vectors across kShort of them: lane i is row i's. So a vector of sums is
// one chain of multiply-adds for each row, in the order of its elements: the sums of tiles (gemm_micro.h,
// attention_tile.h), for rows of which only few products are wanted.
//
// Four words of 32 bits of two rows make a vector (where it has 256 bits), and four vectors are transposed within their
// 128 bits: half of the shuffles that whole squares take.
#pragma once
#include "cpu/kernels/interleave.h"
#include "cpu/kernels/short_vector.h"

namespace heed::cpu::HEED_ISA {
namespace {

constexpr int kAcross = 4;  // words of 32 bits at a time

template <int n>
struct Count {
  static constexpr int value = n;
};

// a0 b0 a1 b1 (a2 b2 a3 b3) of each 128 bits.
inline vs unpack_low(vs a, vs b) {
#if defined(__AVX2__)
  return (vs)_mm256_unpacklo_ps((__m256)a, (__m256)b);
#else
  return interleave_low(a, b);
#endif
}
inline vs unpack_high(vs a, vs b) {
#if defined(__AVX2__)
  return (vs)_mm256_unpackhi_ps((__m256)a, (__m256)b);
#else
  return interleave_high(a, b);
#endif
}

// Rows of T that are as far apart from each other, as a function of a row. A processor has too few registers for a
// pointer to each, which compilers would make and keep in memory; from one place on, these are four and three
// distances. With `lines`, the rows' cache lines are best read one group after the other.
template <class T, bool lines = false>
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
template <class T, bool lines>
inline auto rows_from(const EvenRows<T, lines>& rows, int64_t k) {
  return rows.from(k);
}
template <class Row>
inline auto rows_from(const Row& row, int64_t k) {
  return [&row, k](int i) { return row(i) + k; };
}

template <class Row>
constexpr bool reads_lines = false;
template <class T>
constexpr bool reads_lines<EvenRows<T, true>> = true;

// The four words of rows i and i + 4; row(i) is where row i's are.
template <class Row>
inline vs words_of_rows(const Row& row, int i) {
  const auto at = [&](int r) { return reinterpret_cast<const float*>(row(r)); };
#if defined(__AVX2__)
  return (vs)_mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(at(i))), _mm_loadu_ps(at(i + 4)), 1);
#else
  return load(at(i));
#endif
}

// words[q] = word q of every row.
template <class Row>
inline void load_words(vs (&words)[kAcross], const Row& row) {
  vs x[kAcross];
#pragma GCC unroll 4
  for (int i = 0; i < kAcross; i++) x[i] = words_of_rows(row, i);
  const vs even = unpack_low(x[0], x[2]), odd = unpack_low(x[1], x[3]);
  words[0] = unpack_low(even, odd);
  words[1] = unpack_high(even, odd);
  const vs even_high = unpack_high(x[0], x[2]), odd_high = unpack_high(x[1], x[3]);
  words[2] = unpack_low(even_high, odd_high);
  words[3] = unpack_high(even_high, odd_high);
}

#if defined(__AVX2__) && defined(__F16C__)
constexpr bool kTransposesHalves = true;
using HalfRow = __m128i;  // 8 elements

// elements[k] = element k of every row, as floats, of 8 elements of f16. Squares of 8 · 8 are transposed as they are,
// before they become floats of twice the size.
template <class Row>
inline void load_halves(vs (&elements)[8], const Row& row) {
  HalfRow pairs[8], fours[8];
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    const HalfRow even = load_as<HalfRow>(row(i)), odd = load_as<HalfRow>(row(i + 1));
    pairs[i] = _mm_unpacklo_epi16(even, odd);
    pairs[i + 1] = _mm_unpackhi_epi16(even, odd);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) {  // elements 0 to 3, or 4 to 7, of rows 0 to 3, or 4 to 7
    const int first = i / 2 * 4 + i % 2;
    fours[2 * i] = _mm_unpacklo_epi32(pairs[first], pairs[first + 2]);
    fours[2 * i + 1] = _mm_unpackhi_epi32(pairs[first], pairs[first + 2]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) {
    elements[2 * i] = (vs)_mm256_cvtph_ps(_mm_unpacklo_epi64(fours[i], fours[i + 4]));
    elements[2 * i + 1] = (vs)_mm256_cvtph_ps(_mm_unpackhi_epi64(fours[i], fours[i + 4]));
  }
}
#else
constexpr bool kTransposesHalves = false;
template <class Row>
inline void load_halves(vs (&)[8], const Row&) {}
#endif

// Both elements of words in 16 bits, as floats.
inline void split(bf16, vs words, vs* both) {
  both[0] = (vs)((vsu)words << 16);
  both[1] = (vs)((vsu)words & 0xffff0000u);
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
  static constexpr int kParts = 4;  // of a cache line

  template <class Row>
  static void load(vs (&steps)[kSteps], const Row& row) {
    if constexpr (kSteps == kAcross) {
      load_words(steps, row);
    } else if constexpr (kTransposesHalves && std::is_same_v<T, f16>) {
      load_halves(steps, row);
    } else {
      vs words[kAcross];
      load_words(words, row);
#pragma GCC unroll 4
      for (int q = 0; q < kAcross; q++) split(T{}, words[q], steps + 2 * q);
    }
  }

  // sum[g][r] = sum[g][r] + Σ x(r, k) · row(g · kShort + i)[k] for k in [begin, end), lane i; multiply_add(x, y, sum)
  // of one step's terms, of which x(r, k) is the word from k on. `next` is null, or what the caller reads afterwards,
  // of which as much is asked for as is read here.
  template <int G, int R, class X, class Row, class MultiplyAdd>
  static inline __attribute__((always_inline)) void chains(int64_t begin, int64_t end, const X& x, const Row& row,
                                                           const char* next, vs (&sum)[G][R],
                                                           const MultiplyAdd& multiply_add) {
    const auto add = [&](int g, int64_t k, int64_t left, const auto& here) __attribute__((always_inline)) {
      vs steps[kSteps];
      load(steps, [&](int i) { return here(g * kShort + i); });
#pragma GCC unroll 8
      for (int q = 0; q < kSteps; q++) {
        if (q * kTerms >= left) break;
#pragma GCC unroll 8
        for (int r = 0; r < R; r++) sum[g][r] = multiply_add(x(r, k + q * kTerms) - vs{}, steps[q], sum[g][r]);
      }
    };
    int64_t k = begin;
    const auto ask = [&](auto parts) {
      if (!next) return;
      constexpr int kBytes = G * kShort * parts.value * 16;
#pragma GCC unroll 8
      for (int at = 0; at < kBytes; at += 64) __builtin_prefetch(next + at, 0, 2);
      next += kBytes;
    };
    if constexpr (reads_lines<Row>) {
      for (; k + kParts * kElements <= end; k += kParts * kElements) {
        ask(Count<kParts>{});
#pragma GCC unroll 2
        for (int g = 0; g < G; g++)
#pragma GCC unroll 1
          for (int part = 0; part < kParts; part++) {
            const int64_t at = k + part * kElements;
            add(g, at, kElements, rows_from(row, at));
          }
      }
    }
    for (; k + kElements <= end; k += kElements) {
      ask(Count<1>{});
      const auto here = rows_from(row, k);
#pragma GCC unroll 4
      for (int g = 0; g < G; g++) add(g, k, kElements, here);
    }
    if (k >= end) return;
    T rest[G * kShort][kElements] = {};
    for (int i = 0; i < G * kShort; i++)
      __builtin_memcpy(rest[i], row(i) + k, static_cast<size_t>(end - k) * sizeof(T));
    for (int g = 0; g < G; g++) add(g, k, end - k, [&](int i) { return rest[i]; });
  }
};

// Groups of rows at a time for R sums of each, so that as many chains are under way as hide the latency of additions.
constexpr int groups_at_once(int R) { return R <= 2 ? 4 : R <= 4 ? 2 : 1; }

// body(Count<G>{}, j, row) for `rows` rows of T from `first` on, `apart` elements apart: G groups of them from row j
// on. In the last group, the last row stands for those that do not exist. Rows whose distance is a multiple of 4 KiB
// share their places in the L1 cache, which has room for eight of them; a line is read in four parts.
template <int R, int most = groups_at_once(R), class T, class Body>
inline void for_each_group(const T* first, int64_t apart, int64_t rows, const Body& body) {
  const int64_t bytes = apart * static_cast<int64_t>(sizeof(T));
  int64_t j = 0;
  const auto groups = [&](auto count, auto row) {
    constexpr int64_t kRows = count.value * kShort;
    for (; j + kRows <= rows; j += kRows) {
      row.first = first + j * apart;
      body(count, j, row);
    }
  };
  const EvenRows<T> even{first, apart};
  if constexpr (most == 4)
    if (bytes % 2048 != 0) groups(Count<4>{}, even);
  if constexpr (most >= 2) {
    if (bytes % 4096 != 0)
      groups(Count<2>{}, even);
    else
      groups(Count<2>{}, EvenRows<T, true>{first, apart});
  }
  groups(Count<1>{}, even);
  if (j == rows) return;
  const T* some[kShort];
  for (int64_t i = 0; i < kShort; i++) some[i] = first + min_of(j + i, rows - 1) * apart;
  body(Count<1>{}, j, [&](int i) { return some[i]; });
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
