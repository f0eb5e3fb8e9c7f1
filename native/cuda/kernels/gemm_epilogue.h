// The end of a matrix product: sums, in f32, through bias, activation or its derivative, and residual, to `out`, as
// ops.def defines it. A block leaves its tile of sums in shared memory, so that each warp then reads and writes whole
// rows of the matrices, four elements a thread where they are aligned.
//
// Where K is split, each block puts its sums into the workspace, and gemm_reduce adds them up, in order.
#pragma once
#include <type_traits>

#include "cuda/kernels/activation.h"
#include "cuda/kernels/gemm.h"

#if HEED_DEVICE_CODE

namespace heed::cuda {

// N elements of a matrix of T or f32 from `at` on; if N is 4, with one access.
template <class T, int N>
__device__ __forceinline__ void load_mixed(const void* data, bool f32, int64_t at, float (&x)[N]) {
  if (std::is_same_v<T, float> || f32) {
    const auto v = Vector<float, N>::load(static_cast<const float*>(data) + at);
#pragma unroll
    for (int i = 0; i < N; i++) x[i] = v.at[i];
  } else {
    const auto v = Vector<T, N>::load(static_cast<const T*>(data) + at);
#pragma unroll
    for (int i = 0; i < N; i++) x[i] = to_float(v.at[i]);
  }
}

template <class T, int N>
__device__ __forceinline__ void store_mixed(void* data, bool f32, int64_t at, const float (&x)[N]) {
  if (std::is_same_v<T, float> || f32) {
    Vector<float, N> v;
#pragma unroll
    for (int i = 0; i < N; i++) v.at[i] = x[i];
    v.store_global(static_cast<float*>(data) + at);
  } else {
    Vector<T, N> v;
#pragma unroll
    for (int i = 0; i < N; i++) v.at[i] = from_float<T>(x[i]);
    v.store_global(static_cast<T*>(data) + at);
  }
}

// The matrices of one member of a batch.
template <class T>
struct GemmEpilogue {
  const GemmParams& p;
  BatchOffsets<4> offsets;  // of out, residual, preact and dact

  __device__ __forceinline__ GemmEpilogue(const GemmParams& p, int64_t matrix)
      : p(p), offsets(p, matrix, {p.out.batch, p.residual.batch, p.preact.batch, p.dact.batch}) {}

  // Elements (m, n) to (m, n + N - 1).
  template <int N>
  __device__ __forceinline__ void finish(int64_t m, int64_t n, float (&x)[N]) const {
    float y[N];
    if (p.bias) {
      load_mixed<T>(p.bias, p.bias_f32, n, y);
      add(x, y);
    }
    if (p.preact.data) store_mixed<T>(p.preact.data, false, offsets.at[2] + m * p.preact.row + n, x);
    if (p.dact.data) {
      load_mixed<T>(p.dact.data, false, offsets.at[3] + m * p.dact.row + n, y);
#pragma unroll
      for (int i = 0; i < N; i++) x[i] *= activate_grad(p.activation, y[i]);
    } else if (p.activation != Activation::none) {
#pragma unroll
      for (int i = 0; i < N; i++) x[i] = activate(p.activation, x[i]);
    }
    if (p.residual.data) {
      load_mixed<T>(p.residual.data, p.residual.f32, offsets.at[1] + m * p.residual.row + n, y);
      add(x, y);
    }
    const int64_t at = offsets.at[0] + m * p.out.row + n;
    if (p.accumulate) {
      load_mixed<T>(p.out.data, p.out.f32, at, y);
      add(x, y);
    }
    store_mixed<T>(p.out.data, p.out.f32, at, x);
  }

 private:
  template <int N>
  __device__ __forceinline__ static void add(float (&x)[N], const float (&y)[N]) {
#pragma unroll
    for (int i = 0; i < N; i++) x[i] += y[i];
  }
};

// Where the sum of an element lies in the shared tile: 32-byte parts of four rows at a time are permuted, so that the
// fragments of mma, 32 bytes of each of four rows, are stored into all banks.
template <int kColumns>
__device__ __forceinline__ int staged(int row, int column) {
  static_assert(kColumns % 32 == 0, "four rows permute the parts of 128 bytes");
  return row * kColumns + (column ^ (row % 4 * 8));
}

// The elements of the tile that are in the matrix, N at a time, to `put(row, column, sums)`.
template <int N, int kColumns, int kThreads, class Put>
__device__ __forceinline__ void for_staged(const float* tile, int rows, int columns, const Put& put) {
#pragma unroll 1
  for (int q = threadIdx.x; q < rows * kColumns / N; q += kThreads) {
    const int row = q / (kColumns / N), column = q % (kColumns / N) * N;
    if (column >= columns) continue;
    auto sums = Vector<float, N>::load(tile + staged<kColumns>(row, column));
    put(row, column, sums);
  }
}

// Called by all threads of the block, after a barrier.
template <class T, int kRows, int kColumns, int kThreads>
__device__ __forceinline__ void gemm_finish(const GemmParams& p, const GemmTile& t, const float* tile) {
  const int rows = min(gemm_left(p.m, t.m), kRows), columns = min(gemm_left(p.n, t.n), kColumns);
  if (p.splits > 1) {
    float* const to = p.partial + ((t.split * p.batch + t.matrix) * p.m + t.m) * p.pitch + t.n;
    return for_staged<4, kColumns, kThreads>(
        tile, rows, columns, [&](int row, int column, auto& sums) { sums.store_global(to + row * p.pitch + column); });
  }
  const GemmEpilogue<T> epilogue(p, t.matrix);
  const auto finish = [&](int row, int column, auto& sums) { epilogue.finish(t.m + row, t.n + column, sums.at); };
  if (p.vectors)
    for_staged<4, kColumns, kThreads>(tile, rows, columns, finish);
  else
    for_staged<1, kColumns, kThreads>(tile, rows, columns, finish);
}

template <class T, int N>
__device__ __forceinline__ void reduce_splits(const GemmParams& p) {
  const int64_t at = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * N;
  const int64_t size = p.batch * p.m * p.pitch, row = at / p.pitch, column = at % p.pitch;
  if (at >= size || column >= p.n) return;
  auto sums = Vector<float, N>::load(p.partial + at);
  for (int s = 1; s < p.splits; s++) {
    const auto part = Vector<float, N>::load(p.partial + s * size + at);
#pragma unroll
    for (int i = 0; i < N; i++) sums.at[i] += part.at[i];
  }
  GemmEpilogue<T>(p, row / p.m).finish(row % p.m, column, sums.at);
}

// Adds up the parts of K. One thread four elements, or one where the matrices do not allow vectors.
template <class T>
__device__ void gemm_reduce(const GemmParams& p) {
  if (p.vectors)
    reduce_splits<T, 4>(p);
  else
    reduce_splits<T, 1>(p);
}

}  // namespace heed::cuda

#endif
