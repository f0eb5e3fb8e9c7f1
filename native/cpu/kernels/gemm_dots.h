// A few rows of A by B that is contiguous in k: dot products of its rows, which are read across (across.h), so that the
// lanes of a vector of sums are chains (gemm_words.h) of as many rows.
#pragma once
#include "cpu/kernels/across.h"
#include "cpu/kernels/gemm_words.h"

namespace heed::cpu::HEED_ISA {
namespace {

// Most rows that are few, and the number for which code exists that m rows are computed with.
constexpr int kFewRows = 8;
constexpr int few_rows_of(int64_t m) { return m <= 2 ? static_cast<int>(m) : static_cast<int>(m + 1) / 2 * 2; }

// Floats of gather_rows' result for m rows.
inline int64_t gathered_floats(const Chains& chains, int64_t m, int64_t k) {
  return few_rows_of(m) * ceil_div(chains.words(k), kWidth) * kWidth;
}

// to[word][M] = the words of `rows` rows of a, and zeros after the last row: in the order in which they are read,
// because rows may be apart by distances that crowd into few cache sets.
template <int M, class Words>
inline void gather_rows(float* to, const typename Words::Element* a, int64_t rows, int64_t k, int64_t row_stride,
                        int64_t k_stride) {
  constexpr int64_t kElements = Words::kElements;
  if (k_stride != 1) {
    for (int64_t at = 0; at < k; at += kElements, to += M)
      for (int i = 0; i < M; i++)
        to[i] = i < rows ? Words::one(a + i * row_stride + at * k_stride, k_stride, k - at) : 0;
    return;
  }
  for (int i = 0; i < M; i++, a += row_stride)
    for (int64_t at = 0; at < k; at += kWidth * kElements) {
      const vf x = i < rows ? Words::along_k(a + at, k - at) : vf{};
      float* const word = to + at / kElements * M;
      if constexpr (M == 1)
        store(word, x);
      else
        for (int j = 0; j < kWidth; j++) word[j * M + i] = x[j];
    }
}

// sums[i · stride + j] = Σ_p a[i][p] b[j][p] for `rows` rows of b that are `apart` elements apart; a is gather_rows'.
// Writes whole vectors.
template <int M, class Words>
inline void dot_rows(const Chains& chains, int64_t k, const float* a, const typename Words::Element* b, int64_t apart,
                     int64_t rows, float* sums, int64_t stride) {
  using Element = typename Words::Element;
  using Rows = Across<Element, Words::kElements>;
  const auto x = [&](int i, int64_t p) { return a[p / Words::kElements * M + i]; };
  // Four groups hide more latency, but memory delivers 32 rows at once more slowly.
  for_each_group<M, (groups_at_once(M) > 1 ? 2 : 1)>(b, apart, rows, [&](auto groups, int64_t j, const auto& row) {
    constexpr int G = decltype(groups)::value;
    const auto* next = reinterpret_cast<const char*>(b + (j + G * kShort) * apart);
    for (int64_t begin = 0; begin == 0 || begin < k; begin += chains.length) {
      const int64_t end = min_of(begin + chains.length, k);
      vs sum[G][M] = {};
      Rows::chains(begin, end, x, row, next, sum,
                   [](vs left, vs right, vs to) { return multiply_add<Words::kWord>(left, right, to); });
      next += (end - begin) * G * kShort * static_cast<int64_t>(sizeof *b);
      for (int g = 0; g < G; g++)
        for (int i = 0; i < M; i++) {
          float* const to = sums + i * stride + j + g * kShort;
          store_as(to, begin ? sum[g][i] + load_as<vs>(to) : sum[g][i]);
        }
    }
  });
}

// f(Count<M>{}) with the number of rows for which there is code and which has m rows.
template <class F>
inline void with_few_rows(int64_t m, const F& f) {
  switch (few_rows_of(m)) {
    case 1:
      return f(Count<1>{});
    case 2:
      return f(Count<2>{});
    case 4:
      return f(Count<4>{});
    case 6:
      return f(Count<6>{});
    case kFewRows:
      return f(Count<kFewRows>{});
  }
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
