// The matrix product of a few rows (decoding). It is bound by reading B once, so B is not packed, and each thread reads
// it in place, one address after the other: rows taken side by side, or pieces of rows, run at two thirds of the
// memory's speed. M is a template parameter. There are two forms for the two layouts of B: dot products of its rows if
// it is contiguous in k, and sums of its scaled rows if it is contiguous in n. In the latter, threads take slices of k,
// whose sums are added up at the end. Slices and strips depend on shapes alone, so each element's order of summation is
// fixed.
#pragma once
#include "cpu/kernels/gemm_epilogue.h"
#include "cpu/kernels/interleave.h"

namespace heed::cpu::HEED_ISA {
namespace {

template <int n>
struct Count {
  static constexpr int value = n;
};

constexpr int kFewRows = 8;
// Columns of a strip in each form: rows of B for dot products; for sums, as many as let M rows of them stay in L1.
constexpr int64_t kDotStrip = 128;
constexpr int64_t sum_strip(int64_t m) { return m <= 2 ? 4096 : 8192 / m / 64 * 64; }
// Elements of B that are worth a turn at the counter: a sleeping thread takes longer to wake than a small model's
// products take.
constexpr int64_t kTaskElements = 1 << 14;
// Elements of a slice of k, and the most slices.
constexpr int64_t kSliceElements = 1 << 17, kSlices = 8;

// 2 · kWidth elements in the order that is fastest to load. For bf16 the even ones come first, because a shift and a
// mask separate them.
struct Two {
  vf first, second;
};
constexpr int kTwo = 2 * kWidth;

inline Two load_two(const float* p) { return {load(p), load(p + kWidth)}; }
inline Two load_two(const f16* p) { return {load(p), load(p + kWidth)}; }
inline Two load_two(const bf16* p) {
  const vu pairs = load_as<vu>(p);
  return {(vf)(pairs << 16), (vf)(pairs & 0xffff0000u)};
}
// Loads the first n < kTwo of them, followed by zeros.
template <class T>
inline Two load_two(const T* p, int64_t n) {
  T some[kTwo] = {};
  __builtin_memcpy(some, p, static_cast<size_t>(n) * sizeof(T));
  return load_two(some);
}

// Prefetches the kTwo elements that lie `ahead` of p. If there is work between loads, a processor has too few of them
// in flight for the speed of memory; the loads of one row in f32 need no help.
constexpr int64_t kFetchedBytes = 4096;
template <int M, class T>
inline void fetch(const T* p, int64_t ahead) {
  if constexpr (M > 1 || sizeof(T) < sizeof(float))
    for (size_t byte = 0; byte < kTwo * sizeof(T); byte += 64)
      __builtin_prefetch(reinterpret_cast<const char*>(p + ahead) + byte);
}

// Puts kTwo sums that were added up in the order of load_two into their own order.
inline void put_in_order(const float*, float*) {}
inline void put_in_order(const f16*, float*) {}
inline void put_in_order(const bf16*, float* sums) {
  const vu even = load_as<vu>(sums), odd = load_as<vu>(sums + kWidth);
  store_as(sums, interleave_low(even, odd));
  store_as(sums + kWidth, interleave_high(even, odd));
}

// sums[i][j] = Σ_p a[i][p] b[j][p] for `columns` rows of b, each contiguous in p.
template <int M, class T>
inline void dot_rows(const Problem& p, const T* a, const T* b, int64_t columns, float* sums) {
  constexpr int U = M == 1 ? 4 : M == 2 ? 2 : 1;  // steps at once: independent chains of additions
  for (int64_t j = 0; j < columns; j++, b += p.b.column) {
    vf first[M][U] = {}, second[M][U] = {};
    const auto step = [&](int64_t k, int u, auto... n) {
      fetch<M>(b + k, kFetchedBytes / static_cast<int64_t>(sizeof(T)));
      const Two y = load_two(b + k, n...);
#pragma GCC unroll 8
      for (int i = 0; i < M; i++) {
        const Two x = load_two(a + i * p.a.row + k, n...);
        first[i][u] = fma(x.first, y.first, first[i][u]);
        second[i][u] = fma(x.second, y.second, second[i][u]);
      }
    };
    int64_t k = 0;
    for (; k + U * kTwo <= p.k; k += U * kTwo)
#pragma GCC unroll 4
      for (int u = 0; u < U; u++) step(k + u * kTwo, u);
    for (; k + kTwo <= p.k; k += kTwo) step(k, 0);
    if (k < p.k) step(k, 0, p.k - k);
    for (int i = 0; i < M; i++) {
      vf sum{};
      for (int u = 0; u < U; u++) sum += first[i][u] + second[i][u];
      sums[i * kDotStrip + j] = hsum(sum);
    }
  }
}

// sums[i][j] = Σ_p a[i][p] b[p][j] for p in [begin, end) and `columns` of b's contiguous columns, kDepth rows of b at
// once. It writes up to a multiple of kTwo.
template <int M, class T>
inline void scale_rows(const Problem& p, const T* a, const T* b, int64_t begin, int64_t end, int64_t columns,
                       float* sums) {
  constexpr int kDepth = M <= 2 ? 8 : 4;
  constexpr int64_t kStrip = sum_strip(M);
  const int64_t padded = ceil_div(columns, kTwo) * kTwo;
  for (int i = 0; i < M; i++) std::memset(sums + i * kStrip, 0, static_cast<size_t>(padded) * sizeof(float));
  const auto some = [&](int64_t k, auto depth) {
    constexpr int D = decltype(depth)::value;
    vf x[M][D];
    for (int i = 0; i < M; i++)
      for (int q = 0; q < D; q++) x[i][q] = set1(load_one(a + i * p.a.row + (k + q) * p.a.column));
    const auto step = [&](int64_t j, auto... n) {
      Two y[D];
#pragma GCC unroll 8
      for (int q = 0; q < D; q++) {
        const T* const row = b + (k + q) * p.b.row + j;
        fetch<M>(row, D * p.b.row);
        y[q] = load_two(row, n...);
      }
#pragma GCC unroll 8
      for (int i = 0; i < M; i++) {
        float* const s = sums + i * kStrip + j;
        vf first = load(s), second = load(s + kWidth);
#pragma GCC unroll 8
        for (int q = 0; q < D; q++) {
          first = fma(x[i][q], y[q].first, first);
          second = fma(x[i][q], y[q].second, second);
        }
        store(s, first);
        store(s + kWidth, second);
      }
    };
    int64_t j = 0;
    for (; j + kTwo <= columns; j += kTwo) step(j);
    if (j < columns) step(j, columns - j);
  };
  int64_t k = begin;
  for (; k + kDepth <= end; k += kDepth) some(k, Count<kDepth>{});
  for (; k < end; k++) some(k, Count<1>{});
  for (int i = 0; i < M; i++)
    for (int64_t j = 0; j < columns; j += kTwo) put_in_order(b, sums + i * kStrip + j);
}

template <int M>
inline void multiply_dots(const Problem& p) {
  const int64_t strips = ceil_div(p.n, kDotStrip);
  const int64_t grain = ceil_div(kTaskElements, kDotStrip * max_of<int64_t>(1, p.k));
  parallel_for(p.batch * strips, grain, [&](int64_t begin, int64_t end) {
    alignas(64) float sums[M * kDotStrip + kWidth];
    for (int64_t task = begin; task < end; task++) {
      const int64_t batch = task / strips, j = task % strips * kDotStrip, columns = min_of(kDotStrip, p.n - j);
      p.a.at(batch).visit([&](const auto* a) {
        const auto* b = reinterpret_cast<decltype(a)>((p.b.at(batch) + j * p.b.column).data);
        dot_rows<M>(p, a, b, columns, sums);
      });
      finish(p, Target(p, batch), {sums, kDotStrip, M, columns}, 0, j, true, true);
    }
  });
}

// `partial` is memory for each slice's sums of each strip (FewRows::floats).
template <int M>
inline void multiply_scaled(const Problem& p, int64_t slices, float* partial) {
  constexpr int64_t kStrip = sum_strip(M), kSums = M * kStrip;
  const int64_t strips = ceil_div(p.n, kStrip), depth = ceil_div(p.k, slices);
  const int64_t grain = ceil_div(kTaskElements, min_of(kStrip, p.n) * max_of<int64_t>(1, depth));
  const auto finish_strip = [&](int64_t strip, float* sums) {
    const int64_t batch = strip / strips, j = strip % strips * kStrip;
    finish(p, Target(p, batch), {sums, kStrip, M, min_of(kStrip, p.n - j)}, 0, j, true, true);
  };
  // A strip's slices follow each other, so that each thread's part of B is in one piece.
  parallel_for(p.batch * strips * slices, grain, [&](int64_t begin, int64_t end) {
    alignas(64) float own[kSums];
    for (int64_t task = begin; task < end; task++) {
      const int64_t strip = task / slices, batch = strip / strips, slice = task % slices, j = strip % strips * kStrip;
      float* const sums = slices > 1 ? partial + task * kSums : own;
      p.a.at(batch).visit([&](const auto* a) {
        const auto* b = reinterpret_cast<decltype(a)>((p.b.at(batch) + j).data);
        scale_rows<M>(p, a, b, slice * depth, min_of((slice + 1) * depth, p.k), min_of(kStrip, p.n - j), sums);
      });
      if (slices == 1) finish_strip(strip, sums);
    }
  });
  if (slices == 1) return;
  parallel_for(p.batch * strips, ceil_div(kTaskElements, kSums), [&](int64_t begin, int64_t end) {
    for (int64_t strip = begin; strip < end; strip++) {
      const int64_t columns = min_of(kStrip, p.n - strip % strips * kStrip);
      float* const sums = partial + strip * slices * kSums;
      for (int64_t slice = 1; slice < slices; slice++)
        for (int i = 0; i < M; i++)
          for (int64_t j = i * kStrip; j < i * kStrip + columns; j += kWidth)
            store(sums + j, load(sums + j) + load(sums + slice * kSums + j));
      finish_strip(strip, sums);
    }
  });
}

// The method for a product of few rows.
struct FewRows {
  bool dots;
  int64_t slices = 1;
  int64_t strip;

  explicit FewRows(const Problem& p) : dots(p.b.row == 1), strip(sum_strip(p.m)) {
    if (!dots) slices = max_of<int64_t>(1, min_of(kSlices, min_of(p.n, strip) * p.k / kSliceElements));
  }
  int64_t floats(const Problem& p) const {
    return slices > 1 ? p.batch * ceil_div(p.n, strip) * slices * p.m * strip : 0;
  }
};

template <int M>
inline void multiply_few(const Problem& p, const FewRows& few, float* partial) {
  if (few.dots)
    multiply_dots<M>(p);
  else
    multiply_scaled<M>(p, few.slices, partial);
}

// Returns true if the problem is of that kind: few rows, and contiguous in the dimension that each form needs.
inline bool few_rows(const Problem& p) {
  if (p.m > kFewRows) return false;
  return p.b.row == 1 ? p.a.column == 1 || p.k <= 1 : p.b.column == 1 || p.n <= 1;
}

inline void multiply_few_rows(const Problem& p, const FewRows& few, float* partial) {
  switch (p.m) {
    case 1:
      return multiply_few<1>(p, few, partial);
    case 2:
      return multiply_few<2>(p, few, partial);
    case 3:
      return multiply_few<3>(p, few, partial);
    case 4:
      return multiply_few<4>(p, few, partial);
    case 5:
      return multiply_few<5>(p, few, partial);
    case 6:
      return multiply_few<6>(p, few, partial);
    case 7:
      return multiply_few<7>(p, few, partial);
    case 8:
      return multiply_few<8>(p, few, partial);
  }
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
