// A few rows of A by B that is contiguous in k: dot products of its rows, whose sums are chains like those of every
// other form (gemm_words.h).
#pragma once
#include "cpu/kernels/across.h"
#include "cpu/kernels/gemm_words.h"

namespace heed::cpu::HEED_ISA {
namespace {

// Floats of gather_rows' result.
inline int64_t gathered_floats(const Problem& p, const Chains& chains) {
  return p.m * ceil_div(chains.order(p.k).words(), kWidth) * kWidth;
}

// to[step][M][ways] = the words of the rows of a, zeros after the last: in the order in which they are read, because
// rows may be apart by distances that crowd into few cache sets.
template <int M, class Words>
inline void gather_rows(float* to, const Problem& p, const Chains& chains, const typename Words::Element* a) {
  const int64_t words = chains.order(p.k).words();
  for (int i = 0; i < M; i++, a += p.a.row)
    for (int64_t word = 0; word < words; word += kWidth) {
      const int64_t k = word * Words::kElements;
      const vf x = Words::along_k(a + k, max_of<int64_t>(0, p.k - k));
      if constexpr (M == 1) {
        store(to + word, x);
      } else if (chains.ways == 1) {
        for (int j = 0; j < kWidth; j++) to[(word + j) * M + i] = x[j];
      } else {
        for (int j = 0; j < kWidth; j += kWays)
          __builtin_memcpy(to + (word + j) * M + i * kWays, reinterpret_cast<const float*>(&x) + j, sizeof(vs));
      }
    }
}

// Rows of b that are asked for while those before them are read, in the order of addresses: rows that are read together
// run at two thirds of the memory's speed. They go to the L1 cache, if both fit it, or to the L2.
enum class Ask { nothing, near, far };
template <Ask ask>
struct Asking {
  static constexpr Ask value = ask;
};
constexpr int64_t kNearBytes = 20 << 10;  // of rows of both

// Of b at a time, for M rows of a: their products' sums, a word of each and one of a are in registers.
constexpr int rows_at_once(int M) {
#if defined(__AVX512F__) || defined(__aarch64__)
  constexpr int kRegisters = 32;
#else
  constexpr int kRegisters = 16;
#endif
  const int most = (kRegisters - 2) / (M + 1);
  return M == 1 || most > 8 ? 8 : most;
}

// kWays words at p, of which there are n elements; zeros follow.
template <class Words>
inline vs ways_upto(const typename Words::Element* p, int64_t n) {
  constexpr int64_t kElements = kWays * Words::kElements;
  if (n >= kElements) return Words::ways(p);
  typename Words::Element some[kElements] = {};
  __builtin_memcpy(some, p, static_cast<size_t>(n) * sizeof *p);
  return Words::ways(some);
}

// sums[i · stride + j] = Σ_p a[i][p] b[j][p] for `columns` rows of b that are p.b.column apart; a is gather_rows'. A
// section is kWays chains, the lanes of a vector of sums.
template <int M, class Words>
inline void dot_rows(const Problem& p, const Chains& chains, const float* a, const typename Words::Element* b,
                     int64_t columns, float* sums, int64_t stride) {
  using Element = typename Words::Element;
  constexpr int64_t kStep = kWays * Words::kElements;
  const int64_t apart = p.b.column;
  const auto dots = [&](auto rows, auto asking, int64_t j) {
    constexpr int R = decltype(rows)::value;
    constexpr Ask ask = decltype(asking)::value;
    const Element* const from = b + j * apart;
    const auto* next = reinterpret_cast<const char*>(from + R * apart);
    const float* x = a;
    for (int64_t begin = 0; begin < p.k; begin += chains.length) {
      const int64_t end = min_of(begin + chains.length, p.k);
      vs sum[R][M] = {};
      const auto add = [&](int64_t k, int64_t n) {
        const auto word = [&](int r) { return ways_upto<Words>(from + r * apart + k, n); };
        if constexpr (M == 1) {  // each is needed once, and 16 registers have no room for all
          const vs left = load_as<vs>(x);
          x += kWays;
#pragma GCC unroll 8
          for (int r = 0; r < R; r++) sum[r][0] = multiply_add<Words::kWord>(left, word(r), sum[r][0]);
          return;
        }
        vs y[R];
#pragma GCC unroll 8
        for (int r = 0; r < R; r++) y[r] = word(r);
#pragma GCC unroll 8
        for (int i = 0; i < M; i++, x += kWays) {
          const vs left = load_as<vs>(x);
#pragma GCC unroll 8
          for (int r = 0; r < R; r++) sum[r][i] = multiply_add<Words::kWord>(left, y[r], sum[r][i]);
        }
      };
      int64_t k = begin;
      for (; k + kStep <= end; k += kStep) {
        constexpr int64_t kBytes = R * kStep * static_cast<int64_t>(sizeof(Element));
#pragma GCC unroll 8
        for (int64_t at = 0; at < kBytes; at += 64) {
          if constexpr (ask == Ask::near) __builtin_prefetch(next + at, 0, 3);
          if constexpr (ask == Ask::far) __builtin_prefetch(next + at, 0, 2);
        }
        next += kBytes;
        add(k, kStep);
      }
      if (k < end) add(k, end - k);
      for (int r = 0; r < R; r++)
        for (int i = 0; i < M; i++) {
          float* const to = sums + i * stride + j + r;
          float total = begin ? *to + sum[r][i][0] : sum[r][i][0];
          for (int way = 1; way < kWays; way++) total += sum[r][i][way];
          *to = total;
        }
    }
  };
  int64_t j = 0;
  const auto all = [&](auto rows, auto asking) {
    for (; j + rows.value <= columns; j += rows.value) dots(rows, asking, j);
    for (; j < columns; j++) dots(Count<1>{}, asking, j);
  };
  constexpr int R = rows_at_once(M);
  const int64_t bytes_of_a = gathered_floats(p, chains) * static_cast<int64_t>(sizeof *a);
  const auto near = [&](int rows) {
    return rows * apart * static_cast<int64_t>(sizeof(Element)) + bytes_of_a <= kNearBytes;
  };
  if (near(R)) return all(Count<R>{}, Asking<Ask::near>{});
  if (M == 1 && near(R / 2)) return all(Count<R / 2>{}, Asking<Ask::near>{});
  constexpr bool kHelped = M > 1 || sizeof(Element) < sizeof(float);  // one row in f32 needs no help
  all(Count<R>{}, Asking<kHelped ? Ask::far : Ask::nothing>{});
}

// The same for a short K, whose sections are single chains: rows of b are read across (across.h), so that a vector of
// sums is one chain of each. Writes whole vectors.
template <int M, class Words>
inline void dot_rows_across(const Problem& p, const Chains& chains, const float* a, const typename Words::Element* b,
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
