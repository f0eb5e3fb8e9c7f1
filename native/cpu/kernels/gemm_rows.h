// The matrix product of a few rows (decoding): bound by reading B once, so B is not packed. M is a template parameter,
// the number of rows or one more. Two forms by how B lies: dot products of its rows where it is contiguous in k
// (gemm_dots.h), sums of its scaled rows where it is contiguous in n; in the latter each task is a chain (gemm_words.h)
// of a strip of columns, and the sums of chains are added up at the end.
#pragma once
#include "cpu/kernels/claims.h"
#include "cpu/kernels/gemm_dots.h"
#include "cpu/kernels/gemm_epilogue.h"
#include "cpu/kernels/interleave.h"

namespace heed::cpu::HEED_ISA {
namespace {

constexpr int kFewScaledRows = 4;  // more sums of scaled rows would cost more than reading B
// Columns of a strip in each form: rows of B for dot products; for sums, as many at most as let M rows of them stay in
// L1, and as many at least as make long pieces of B's rows.
constexpr int64_t kDotStrip = 128;
constexpr int64_t sum_strip(int64_t m) { return m <= 2 ? 4096 : 8192 / m / 64 * 64; }
constexpr int64_t kLeastSumStrip = 512;
constexpr int64_t kTasksOfWorker = 2;
// Elements of B that are worth a turn at the counter: a sleeping thread takes longer to wake than a small model's
// products take.
constexpr int64_t kTaskElements = 1 << 14;
// Of B, times rows, that a thread takes without a break.
constexpr int64_t kTurnElements = 1 << 22;

// The words of 2 · kWidth columns, in the order in which they come fastest: single ones of bf16 by a shift and a mask,
// even ones first, and pairs as the instructions that interleave two rows have them.
struct Two {
  vf first, second;
};
constexpr int kTwo = 2 * kWidth;

// Of the row at p, and for pairs of the next one, k_stride further on.
inline Two load_two(Singles<float>, const float* p, int64_t) { return {load(p), load(p + kWidth)}; }
inline Two load_two(Singles<f16>, const f16* p, int64_t) { return {load(p), load(p + kWidth)}; }
inline Two load_two(Singles<bf16>, const bf16* p, int64_t) {
  const vu pairs = load_as<vu>(p);
  return {(vf)(pairs << 16), (vf)(pairs & 0xffff0000u)};
}
#if defined(__AVX512F__)
inline Two load_two(Pairs, const bf16* p, int64_t k_stride) {
  const __m512i first = _mm512_loadu_si512(p), second = _mm512_loadu_si512(p + k_stride);
  return {(vf)_mm512_unpacklo_epi16(first, second), (vf)_mm512_unpackhi_epi16(first, second)};
}
#endif
// The first n of them and zeros, where k rows are left.
template <class Words>
inline Two load_two(Words words, const typename Words::Element* p, int64_t k_stride, int64_t n, int64_t k) {
  typename Words::Element some[Words::kElements][kTwo] = {};
  for (int64_t i = 0; i < min_of<int64_t>(k, Words::kElements); i++)
    __builtin_memcpy(some[i], p + i * k_stride, static_cast<size_t>(min_of<int64_t>(n, kTwo)) * sizeof *p);
  return load_two(words, some[0], kTwo);
}

// Asks for the kTwo elements at p. Where there is work between loads, a processor has too few of them under way
// for what memory can do. They go to the L2 cache: rows of a chain are often apart by multiples of 4 KiB, which share
// their places in the L1.
template <class T>
inline void fetch(const T* p) {
  for (size_t byte = 0; byte < kTwo * sizeof(T); byte += 64)
    __builtin_prefetch(reinterpret_cast<const char*>(p) + byte, 0, 2);
}

// Puts kTwo sums that were added up in the order of load_two into their own order.
inline void put_in_order(Singles<float>, float*) {}
inline void put_in_order(Singles<f16>, float*) {}
inline void put_in_order(Singles<bf16>, float* sums) {
  const vu even = load_as<vu>(sums), odd = load_as<vu>(sums + kWidth);
  store_as(sums, interleave_low(even, odd));
  store_as(sums + kWidth, interleave_high(even, odd));
}
#if defined(__AVX512F__)
inline void put_in_order(Pairs, float* sums) {
  const __m512i low = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
  const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
  const __m512 first = (__m512)load(sums), second = (__m512)load(sums + kWidth);
  store(sums, (vf)_mm512_permutex2var_ps(first, low, second));
  store(sums + kWidth, (vf)_mm512_permutex2var_ps(first, high, second));
}
#endif

// sums[i · stride + j] = Σ_p a[i][p] b[p][j] for a chain from `begin` to before `end`, and `columns` of b's contiguous
// columns, kDepth words at a time. Writes up to a multiple of kTwo. `next` is where the caller's next chain begins in
// b, whose first rows are asked for at the end of this one's.
template <int M, class WordsOfA, class Words>
inline void scale_rows(const Problem& p, const typename WordsOfA::Element* a, const typename Words::Element* b,
                       const typename Words::Element* next, int64_t begin, int64_t end, int64_t columns, float* sums,
                       int64_t stride) {
  static_assert(WordsOfA::kWord == Words::kWord);
  constexpr int64_t kElements = Words::kElements;
  constexpr int kDepth = (M <= 2 ? 8 : 4) / static_cast<int>(kElements);  // in words
  const int64_t padded = ceil_div(columns, kTwo) * kTwo;
  for (int i = 0; i < M; i++) std::memset(sums + i * stride, 0, static_cast<size_t>(padded) * sizeof(float));
  const auto some = [&](int64_t k, auto depth) {
    constexpr int D = decltype(depth)::value;
    vf x[M][D];
    for (int i = 0; i < M; i++)
      for (int q = 0; q < D; q++) {
        const int64_t at = k + q * kElements;
        x[i][q] =
            i < p.m && at < end ? set1(WordsOfA::one(a + i * p.a.row + at * p.a.column, p.a.column, end - at)) : vf{};
      }
    const auto* const ahead = k + D * kElements < end ? b + (k + D * kElements) * p.b.row : next;
    const auto step = [&](int64_t j, auto... left) {
      Two y[D];
#pragma GCC unroll 8
      for (int q = 0; q < D; q++) {
        const auto* const row = b + (k + q * kElements) * p.b.row + j;
#pragma GCC unroll 2
        for (int64_t i = 0; i < kElements; i++) fetch(ahead + (q * kElements + i) * p.b.row + j);
        y[q] = load_two(Words{}, row, p.b.row, left...);
      }
#pragma GCC unroll 8
      for (int i = 0; i < M; i++) {
        float* const s = sums + i * stride + j;
        vf first = load(s), second = load(s + kWidth);
#pragma GCC unroll 8
        for (int q = 0; q < D; q++) {
          first = multiply_add<Words::kWord>(x[i][q], y[q].first, first);
          second = multiply_add<Words::kWord>(x[i][q], y[q].second, second);
        }
        store(s, first);
        store(s + kWidth, second);
      }
    };
    const bool whole = k + D * kElements <= end;  // else the last word is not
    int64_t j = 0;
    if (whole)
      for (; j + kTwo <= columns; j += kTwo) step(j);
    for (; j < columns; j += kTwo) step(j, columns - j, end - k);
  };
  int64_t k = begin;
  for (; k + kDepth * kElements <= end; k += kDepth * kElements) some(k, Count<kDepth>{});
  for (; k < end; k += kElements) some(k, Count<1>{});
  for (int i = 0; i < M; i++)
    for (int64_t j = 0; j < columns; j += kTwo) put_in_order(Words{}, sums + i * stride + j);
}

template <int M>
inline void multiply_dots(const Problem& p, const Chains& chains, float* words) {
  const int64_t strips = ceil_div(p.n, kDotStrip), size = gathered_floats(chains, p.m, p.k);
  for (int64_t batch = 0; batch < p.batch; batch++) {
    const Floats a = p.a.at(batch);
    with_words(chains.word, a.dtype, [&](auto kind) {
      using Words = decltype(kind);
      gather_rows<M, Words>(words + batch * size, a.as<typename Words::Element>(), p.m, p.k, p.a.row, 1);
    });
  }
  const int64_t grain = ceil_div(kTaskElements, kDotStrip * max_of<int64_t>(1, p.k));
  parallel_for(p.batch * strips, grain, [&](int64_t begin, int64_t end) {
    alignas(64) float sums[M * kDotStrip];
    for (int64_t task = begin; task < end; task++) {
      const int64_t batch = task / strips, j = task % strips * kDotStrip, columns = min_of(kDotStrip, p.n - j);
      const Floats b = p.b.at(batch) + j * p.b.column;
      with_words(chains.word, b.dtype, [&](auto kind) {
        using Words = decltype(kind);
        dot_rows<M, Words>(chains, p.k, words + batch * size, b.as<typename Words::Element>(), p.b.column, columns,
                           sums, kDotStrip);
      });
      finish(p, Target(p, batch), {sums, kDotStrip, p.m, columns}, 0, j, true, true);
    }
  });
}

// How a product of few rows is done.
struct FewRows {
  bool dots;
  Chains chains;
  int64_t strip;  // columns of a task of scaled rows

  explicit FewRows(const Problem& p) : dots(p.b.row == 1), chains(p) {
    const int64_t columns = p.n * p.batch * chains.count / (kTasksOfWorker * thread_count());
    const int64_t most = max_of(kLeastSumStrip, min_of(columns, sum_strip(few_rows_of(p.m))));
    strip = ceil_div(even_part(p.n, most), kTwo) * kTwo;
  }
  // The memory it takes: for the words of a, or for sums of chains that wait to be added up.
  int64_t floats(const Problem& p) const {
    if (dots) return p.batch * gathered_floats(chains, p.m, p.k);
    return chains.count > 1 ? p.batch * ceil_div(p.n, strip) * chains.count * few_rows_of(p.m) * strip : 0;
  }
};

template <int M>
inline void multiply_scaled(const Problem& p, const FewRows& few, float* partial) {
  const Chains& chains = few.chains;
  const int64_t width = few.strip, strips = ceil_div(p.n, width), count = chains.count, size = M * width;
  const auto finish_strip = [&](int64_t strip, float* sums) {
    const int64_t batch = strip / strips, j = strip % strips * width;
    finish(p, Target(p, batch), {sums, width, p.m, min_of(width, p.n - j)}, 0, j, true, true);
  };
  struct Task {
    int64_t strip, batch, column, begin;  // strip of all, matrix, of k
  };
  const auto task_at = [&](int64_t i) {
    const int64_t strip = i / count;
    return Task{strip, strip / strips, strip % strips * width, i % count * chains.length};
  };
  const int64_t all = p.batch * strips * count;
  const int64_t most = max_of<int64_t>(1, kTurnElements / (width * chains.length * M));
  parallel_ahead(all, most, [&](int64_t i, int64_t following) {
    alignas(64) float own[M * sum_strip(M)];
    const Task task = task_at(i), next = task_at(following < all ? following : i);
    float* const sums = count > 1 ? partial + i * size : own;
    const Floats a = p.a.at(task.batch), b = p.b.at(task.batch) + task.column;
    const Floats b_next = p.b.at(next.batch) + (next.column + next.begin * p.b.row);
    with_both_words(chains.word, a.dtype, b.dtype, [&](auto words_of_a, auto words) {
      using WordsOfA = decltype(words_of_a);
      using Words = decltype(words);
      using Element = typename Words::Element;
      scale_rows<M, WordsOfA, Words>(p, a.as<typename WordsOfA::Element>(), b.as<Element>(), b_next.as<Element>(),
                                     task.begin, min_of(task.begin + chains.length, p.k),
                                     min_of(width, p.n - task.column), sums, width);
    });
    if (count == 1) finish_strip(task.strip, sums);
  });
  if (count == 1) return;
  parallel_for(p.batch * strips, ceil_div(kTaskElements, size), [&](int64_t begin, int64_t end) {
    for (int64_t strip = begin; strip < end; strip++) {
      const int64_t columns = min_of(width, p.n - strip % strips * width);
      float* const sums = partial + strip * count * size;
      for (int64_t chain = 1; chain < count; chain++)
        for (int64_t i = 0; i < p.m; i++)
          for (int64_t j = i * width; j < i * width + columns; j += kWidth)
            store(sums + j, load(sums + j) + load(sums + chain * size + j));
      finish_strip(strip, sums);
    }
  });
}

// Returns true if the problem is of that kind: few rows, and contiguous in the dimension that each form needs.
inline bool few_rows(const Problem& p) {
  if (p.m > kFewRows || p.rounds_b()) return false;
  if (p.b.row == 1) return p.a.column == 1 || p.k <= 1;
  return p.m <= kFewScaledRows && (p.b.column == 1 || p.n <= 1);
}

inline void multiply_few_rows(const Problem& p, const FewRows& few, float* memory) {
  with_few_rows(p.m, [&](auto rows) {
    constexpr int M = decltype(rows)::value;
    if (few.dots) return multiply_dots<M>(p, few.chains, memory);
    if constexpr (M <= kFewScaledRows) multiply_scaled<M>(p, few, memory);
  });
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
