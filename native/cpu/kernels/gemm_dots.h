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

// Floats of gather_rows' result.
inline int64_t gathered_floats(const Problem& p, const Chains& chains) {
  return few_rows_of(p.m) * ceil_div(chains.words(p.k), kWidth) * kWidth;
}

// to[word][M] = the words of the rows of a, and zeros after the last row: in the order in which they are read, because
// rows may be apart by distances that crowd into few cache sets.
template <int M, class Words>
inline void gather_rows(float* to, const Problem& p, const Chains& chains, const typename Words::Element* a) {
  const int64_t words = chains.words(p.k);
  for (int i = 0; i < M; i++, a += p.a.row)
    for (int64_t word = 0; word < words; word += kWidth) {
      const int64_t k = word * Words::kElements;
      const vf x = i < p.m ? Words::along_k(a + k, p.k - k) : vf{};
      if constexpr (M == 1)
        store(to + word, x);
      else
        for (int j = 0; j < kWidth; j++) to[(word + j) * M + i] = x[j];
    }
}

// sums[i · stride + j] = Σ_p a[i][p] b[j][p] for `columns` rows of b that are p.b.column apart; a is gather_rows'.
// Writes whole vectors.
template <int M, class Words>
inline void dot_rows(const Problem& p, const Chains& chains, const float* a, const typename Words::Element* b,
                     int64_t columns, float* sums, int64_t stride) {
  using Element = typename Words::Element;
  using Rows = Across<Element, Words::kElements>;
  const auto x = [&](int i, int64_t k) { return a[k / Words::kElements * M + i]; };
  for_each_group<M>(b, p.b.column, columns, [&](auto groups, int64_t j, const auto& row) {
    constexpr int G = decltype(groups)::value;
    const auto* next = reinterpret_cast<const char*>(b + (j + G * kShort) * p.b.column);
    for (int64_t begin = 0; begin == 0 || begin < p.k; begin += chains.length) {
      const int64_t end = min_of(begin + chains.length, p.k);
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

}  // namespace
}  // namespace heed::cpu::HEED_ISA
