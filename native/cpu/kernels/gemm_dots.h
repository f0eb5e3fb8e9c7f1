// A few rows of A by B that is contiguous in k: kWidth columns of B at a time, read across (across.h), so that their
// sums are chains in the order of k like those of every other form. The columns lie side by side in memory, and the
// next ones are asked for in the order of addresses: rows that are read together run at two thirds of the memory's
// speed.
#pragma once
#include "cpu/kernels/across.h"
#include "cpu/kernels/gemm_words.h"

namespace heed::cpu::HEED_ISA {
namespace {

// sums[i · stride + j] = Σ_p a[i][p] b[j][p] for `columns` rows of b that are p.b.column apart; writes whole vectors. a
// is as the problem has it, or, where 16 bits become floats, those floats in rows of K.
template <int M, class Words>
inline void dot_rows(const Problem& p, const Chains& chains, const typename Words::Element* a, const float* floats,
                     const typename Words::Element* b, int64_t columns, float* sums, int64_t stride) {
  using Rows = Across<typename Words::Element, Words::kElements>;
  const int64_t apart = p.b.column;
  const auto x = [&](int i, int64_t k, int64_t left) {
    return Words::kFloats ? floats[i * p.k + k] : Words::one(a + i * p.a.row + k, 1, left);
  };
  // Rows that are a multiple of 4 KiB apart share their places in the L1 cache, which has room for half of them only.
  // Of such rows, the elements of a chain are first brought together.
  constexpr int64_t kCopied = Chains::kSteps * Words::kElements;
  const bool copies = apart * static_cast<int64_t>(sizeof *b) % 4096 == 0;
  alignas(64) typename Words::Element copied[kWidth][kCopied];
  const auto dots = [&](int64_t j, const auto& row) {
    const auto* next = reinterpret_cast<const char*>(b + kWidth * apart);
    for (int64_t begin = 0; begin == 0 || begin < p.k; begin += chains.length) {
      const int64_t end = min_of(begin + chains.length, p.k);
      vf sum[M] = {};
      const auto chains_of = [&](const auto& rows) {
        Rows::template chains<M>(begin, end, x, rows, next, sum,
                                 [](vf left, vf right, vf to) { return multiply_add<Words::kWord>(left, right, to); });
      };
      if (copies) {
        for (int c = 0; c < kWidth; c++)
          __builtin_memcpy(copied[c], row(c) + begin, static_cast<size_t>(end - begin) * sizeof *b);
        chains_of([&](int c) { return copied[c] - begin; });
      } else {
        chains_of(row);
      }
      next += (end - begin) * kWidth * static_cast<int64_t>(sizeof *a);
      for (int i = 0; i < M; i++) {
        float* const to = sums + i * stride + j;
        store(to, begin ? sum[i] + load(to) : sum[i]);
      }
    }
  };
  for (int64_t j = 0; j < columns; j += kWidth, b += kWidth * apart) {
    if (columns - j >= kWidth) {
      dots(j, [=](int c) { return b + c * apart; });
      continue;
    }
    const typename Words::Element* rows[kWidth];  // the last one again, where there are no more
    for (int64_t c = 0; c < kWidth; c++) rows[c] = b + min_of(c, columns - j - 1) * apart;
    dots(j, [&](int c) { return rows[c]; });
  }
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
