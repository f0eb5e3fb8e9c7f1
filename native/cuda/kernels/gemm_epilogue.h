// The end of a matrix product: takes the f32 sums through bias, activation or its derivative, and residual, to `out`,
// as ops.def defines it. A block leaves its tile of sums in shared memory, so that each warp then reads and writes
// whole rows of the matrices. A thread goes down one column, or down four of them if the matrices are aligned.
#pragma once
#include "cuda/kernels/activation.h"
#include "cuda/kernels/gemm_parts.h"
#include "cuda/kernels/gemm_sum.h"
#include "cuda/kernels/mma.h"

#if HEED_DEVICE_CODE

namespace heed::cuda {

// Loads N elements of T or f32; if N is 4, with one access.
template <class T, int N>
__device__ __forceinline__ void load_mixed(const void* from, bool f32, float (&x)[N]) {
  if (std::is_same_v<T, float> || f32) {
    const auto v = Vector<float, N>::load(static_cast<const float*>(from));
#pragma unroll
    for (int i = 0; i < N; i++) x[i] = v.at[i];
  } else {
    const auto v = Vector<T, N>::load(static_cast<const T*>(from));
#pragma unroll
    for (int i = 0; i < N; i++) x[i] = to_float(v.at[i]);
  }
}

template <class T, int N>
__device__ __forceinline__ void store_mixed(void* to, bool f32, const float (&x)[N]) {
  if constexpr (!std::is_same_v<T, float>)
    if (!f32) {
      if constexpr (N == 4)
        Vector<uint32_t, 2>{{pack<T>(x[0], x[1]), pack<T>(x[2], x[3])}}.store_global(static_cast<uint32_t*>(to));
      else
        *static_cast<T*>(to) = from_float<T>(x[0]);
      return;
    }
  Vector<float, N> v;
#pragma unroll
  for (int i = 0; i < N; i++) v.at[i] = x[i];
  v.store_global(static_cast<float*>(to));
}

// The position of a thread in a matrix of out's shape; null if there is none.
template <class T>
struct GemmColumn {
  unsigned char* at;
  int64_t step;  // bytes
  bool f32;

  __device__ __forceinline__ GemmColumn(const GemmMatrix& x, int64_t offset, int64_t row, int64_t column, int rows)
      : at(static_cast<unsigned char*>(x.data)), step(0), f32(x.f32) {
    if (!at) return;
    const int64_t size = std::is_same_v<T, float> || f32 ? 4 : sizeof(T);
    at += (offset + row * x.row + column) * size;
    step = rows * x.row * size;
  }
  __device__ __forceinline__ explicit operator bool() const { return at; }
  __device__ __forceinline__ void next() { at += step; }
};

template <int N>
__device__ __forceinline__ void add_to(float (&x)[N], const float (&y)[N]) {
#pragma unroll
  for (int i = 0; i < N; i++) x[i] += y[i];
}

template <class T, int N, int kRows, int kColumns, int kThreads>
__device__ __forceinline__ void gemm_finish_columns(const GemmParams& p, const GemmTile& t, const float* tile) {
  constexpr int kAcross = kColumns / N, kStep = kThreads / kAcross;
  static_assert(kThreads % kAcross == 0, "a thread keeps its column");
  const int first = threadIdx.x / kAcross, column = threadIdx.x % kAcross * N;
  const int64_t m = t.m + first, n = t.n + column;
  const int rows = min(gemm_left(p.m, t.m), kRows);
  if (n >= p.n) return;

  const BatchOffsets<4> offsets(p, t.matrix, {p.out.batch, p.residual.batch, p.preact.batch, p.dact.batch});
  GemmColumn<T> out(p.out, offsets.at[0], m, n, kStep);
  // The permutation is the same as in the first row if the rows of a thread are multiples of four apart.
  const auto sums = [&](int row) {
    const int at =
        kStep % 4 ? staged<kColumns>(row, column) : staged<kColumns>(first, column) + (row - first) * kColumns;
    return Vector<float, N>::load(tile + at);
  };
  // f32 that is summed in turns carries its sums from part to part in `out`.
  const bool in_turns = std::is_same_v<T, float> && p.turns > 1;
  const bool carried = in_turns && t.split > 0, unfinished = in_turns && t.split < p.turns - 1;
  if (p.plain && !in_turns) {
    const auto store_all = [&](auto f32) {
#pragma unroll(N == 4 ? 4 : 1)
      for (int row = first; row < rows; row += kStep, out.next()) store_mixed<T>(out.at, f32, sums(row).at);
    };
    if (out.f32)
      store_all(Constant<true>{});
    else
      store_all(Constant<false>{});
    return;
  }
  GemmColumn<T> residual(p.residual, offsets.at[1], m, n, kStep), preact(p.preact, offsets.at[2], m, n, kStep),
      dact(p.dact, offsets.at[3], m, n, kStep);
  float bias[N] = {};
  if (p.bias)
    load_mixed<T>(
        static_cast<const unsigned char*>(p.bias) + n * (std::is_same_v<T, float> || p.bias_f32 ? 4 : sizeof(T)),
        p.bias_f32, bias);
#pragma unroll 1
  for (int row = first; row < rows; row += kStep) {
    auto x = sums(row);
    float y[N];
    if (carried) {
      load_mixed<T>(out.at, true, y);
      add_to(x.at, y);
    }
    if (unfinished) {
      store_mixed<T>(out.at, true, x.at);
      out.next(), residual.next(), preact.next(), dact.next();
      continue;
    }
    if (p.bias) add_to(x.at, bias);
    if (preact) store_mixed<T>(preact.at, false, x.at);
    if (dact) {
      load_mixed<T>(dact.at, false, y);
      with_activation(p.activation, [&](auto, auto slope) {
#pragma unroll
        for (int i = 0; i < N; i++) x.at[i] *= slope(y[i]);
      });
    } else if (p.activation != Activation::none) {
      with_activation(p.activation, [&](auto f, auto) {
#pragma unroll
        for (int i = 0; i < N; i++) x.at[i] = f(x.at[i]);
      });
    }
    if (residual) {
      load_mixed<T>(residual.at, residual.f32, y);
      add_to(x.at, y);
    }
    if (p.accumulate) {
      load_mixed<T>(out.at, out.f32, y);
      add_to(x.at, y);
    }
    store_mixed<T>(out.at, out.f32, x.at);
    out.next(), residual.next(), preact.next(), dact.next();
  }
}

// Must be called by all threads of the block, after a barrier. If K is cut and not summed in turns, one block of a tile
// finishes it. `summed`
// is the operand whose sums the block has written to their place, or its part of them.
template <class T, int kRows, int kColumns, int kThreads>
__device__ __forceinline__ void gemm_finish(const GemmParams& p, const GemmTile& t, Summed summed, float* tile) {
  if (p.splits > 1 && p.turns == 1 && !gemm_join_parts<kRows, kColumns, kThreads>(p, t, tile)) return;
  if (p.vectors)
    gemm_finish_columns<T, 4, kRows, kColumns, kThreads>(p, t, tile);
  else
    gemm_finish_columns<T, 1, kRows, kColumns, kThreads>(p, t, tile);
  if (summed == Summed::a) gemm_join_sums<T, kRows, kThreads>(p, t.m, p.m);
  if (summed == Summed::b) gemm_join_sums<T, kColumns, kThreads>(p, t.n, p.n);
}

}  // namespace heed::cuda

#endif
