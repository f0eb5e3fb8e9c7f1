// The matrix product of a few rows (decoding): bound by reading B once, so B is not packed and M is a template
// parameter. Two forms by how B lies: dot products of its rows where it is contiguous in k, sums of its scaled rows
// where it is contiguous in n. Columns are shared between threads; each element's order of summation is fixed.
#pragma once
#include "cpu/kernels/gemm_epilogue.h"

namespace heed::cpu::HEED_ISA {
namespace {

template <int n>
struct Count {
  static constexpr int value = n;
};

constexpr int kFewRows = 8;
// Columns of a strip: long reads of each row of B, while the sums of M rows stay in L1.
template <int M>
constexpr int kStrip = M <= 2 ? 1024 : 512;

// sums[i][j] = Σ_p a[i][p] b[j][p] for `columns` rows of b, each contiguous in p.
template <int M, class T>
inline void dot_rows(const Problem& p, const T* a, const T* b, int64_t columns, float* sums) {
  constexpr int kTogether = M <= 2 ? 4 : 2;  // rows of B at a time: independent chains of additions
  int64_t j = 0;
  const auto some = [&](auto together) {
    constexpr int J = decltype(together)::value;
    vf acc[M][J] = {};
    const T* row = b + j * p.b.column;
    int64_t k = 0;
    for (; k < p.k; k += kWidth) {
      const int64_t n = p.k - k;
      vf y[J];
#pragma GCC unroll 4
      for (int q = 0; q < J; q++) y[q] = load_upto(row + q * p.b.column + k, n);
#pragma GCC unroll 8
      for (int i = 0; i < M; i++) {
        const vf x = load_upto(a + i * p.a.row + k, n);
#pragma GCC unroll 4
        for (int q = 0; q < J; q++) acc[i][q] = fma(x, y[q], acc[i][q]);
      }
    }
    for (int i = 0; i < M; i++)
      for (int q = 0; q < J; q++) sums[i * kStrip<M> + j + q] = hsum(acc[i][q]);
    j += J;
  };
  while (j + kTogether <= columns) some(Count<kTogether>{});
  while (j < columns) some(Count<1>{});
}

// sums[i][j] = Σ_p a[i][p] b[p][j] for `columns` of b's contiguous columns, kDepth rows of b at a time.
template <int M, class T>
inline void scale_rows(const Problem& p, const T* a, const T* b, int64_t columns, float* sums) {
  constexpr int kDepth = M <= 2 ? 8 : 4;
  for (int i = 0; i < M; i++) std::memset(sums + i * kStrip<M>, 0, static_cast<size_t>(columns) * sizeof(float));
  const auto some = [&](int64_t k, auto depth) {
    constexpr int D = decltype(depth)::value;
    vf x[M][D];
    for (int i = 0; i < M; i++)
      for (int q = 0; q < D; q++) x[i][q] = set1(load_one(a + i * p.a.row + (k + q) * p.a.column));
    for (int64_t j = 0; j < columns; j += kWidth) {
      const int64_t n = columns - j;
      vf y[D];
#pragma GCC unroll 8
      for (int q = 0; q < D; q++) y[q] = load_upto(b + (k + q) * p.b.row + j, n);
#pragma GCC unroll 8
      for (int i = 0; i < M; i++) {
        vf s = load_upto(sums + i * kStrip<M> + j, n);
#pragma GCC unroll 8
        for (int q = 0; q < D; q++) s = fma(x[i][q], y[q], s);
        store_upto(sums + i * kStrip<M> + j, s, n);
      }
    }
  };
  int64_t k = 0;
  for (; k + kDepth <= p.k; k += kDepth) some(k, Count<kDepth>{});
  for (; k < p.k; k++) some(k, Count<1>{});
}

template <int M>
inline void multiply_few(const Problem& p) {
  const bool dots = p.b.row == 1;
  // Rows of B are read in whole strips; narrower ones where there would not be enough for several threads.
  const int64_t quarter = ceil_div(ceil_div(p.n, 4), 64) * 64;
  const int64_t strip = dots ? 128 : min_of<int64_t>(kStrip<M>, max_of<int64_t>(64, quarter));
  const int64_t strips = ceil_div(p.n, strip);
  parallel_for(p.batch * strips, 1, [&](int64_t begin, int64_t end) {
    alignas(64) float sums[M * kStrip<M> + kWidth];
    for (int64_t task = begin; task < end; task++) {
      const int64_t batch = task / strips, j = task % strips * strip, columns = min_of(strip, p.n - j);
      p.a.at(batch).visit([&](const auto* a) {
        const auto* b = reinterpret_cast<decltype(a)>((p.b.at(batch) + j * p.b.column).data);
        if (dots)
          dot_rows<M>(p, a, b, columns, sums);
        else
          scale_rows<M>(p, a, b, columns, sums);
      });
      finish(p, Target(p, batch), {sums, kStrip<M>, M, columns}, 0, j, true, true);
    }
  });
}

// Whether the problem is of that kind: few rows, contiguous where each form needs it.
inline bool few_rows(const Problem& p) {
  if (p.m > kFewRows) return false;
  return p.b.row == 1 ? p.a.column == 1 || p.k <= 1 : p.b.column == 1 || p.n <= 1;
}

inline void multiply_few_rows(const Problem& p) {
  switch (p.m) {
    case 1:
      return multiply_few<1>(p);
    case 2:
      return multiply_few<2>(p);
    case 3:
      return multiply_few<3>(p);
    case 4:
      return multiply_few<4>(p);
    case 5:
      return multiply_few<5>(p);
    case 6:
      return multiply_few<6>(p);
    case 7:
      return multiply_few<7>(p);
    case 8:
      return multiply_few<8>(p);
  }
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
