// Tiles of attention on tensor cores, bf16 and f16: rows of kD elements in shared memory, the head size padded with
// zeros, 16-byte parts permuted (mma.h). A warp multiplies kM · 16 rows of one operand with all rows of the other;
// results stay in its registers, where the next product takes them as its first operand.
#pragma once
#include "cuda/kernels/attention.h"
#include "cuda/kernels/mma.h"

namespace heed::cuda {

constexpr int kMmaThreads = 128;

#if HEED_DEVICE_CODE

extern __shared__ __align__(128) unsigned char attention_shared[];

// tile[r] = row(r) for r < count, zeros in rows and columns beyond. Asynchronous where addresses are aligned; the
// caller commits, waits and synchronises.
template <class T, int kD, int kRows, class Row>
__device__ __forceinline__ void load_tile(T* tile, int count, const AttentionParams& p, const Row& row) {
  constexpr int kParts = kD / 8;
  if (p.aligned) {
#pragma unroll
    for (int i = threadIdx.x; i < kRows * kParts; i += kMmaThreads) {
      const int r = i / kParts, c = i % kParts * 8;
      const int elements = r < count ? max(0, min(8, p.D - c)) : 0;
      cp_async<16>(tile + swizzled<kD>(r, c), row(r) + c, elements * 2);
    }
  } else {
#pragma unroll 1
    for (int i = threadIdx.x; i < kRows * kParts; i += kMmaThreads) {
      const int r = i / kParts, c = i % kParts * 8;
      const int elements = r < count ? p.D - c : 0;
      const T* source = row(r) + c;
      Vector<T, 8> part;
#pragma unroll
      for (int e = 0; e < 8; e++) part.at[e] = e < elements ? source[e] : from_float<T>(0);
      part.store(tile + swizzled<kD>(r, c));
    }
  }
}

// The same of rows that lie `stride` apart: addresses advance by additions.
template <class T, int kD, int kRows>
__device__ __forceinline__ void load_tile(T* tile, int count, const AttentionParams& p, const T* first,
                                          int64_t stride) {
  constexpr int kParts = kD / 8;
  if (kMmaThreads % kParts == 0 && p.aligned) {
    constexpr int kStep = kMmaThreads / kParts;
    const int r = threadIdx.x / kParts, c = threadIdx.x % kParts * 8;
    const int bytes = max(0, min(8, p.D - c)) * 2;
    const T* source = first + r * stride + c;
#pragma unroll
    for (int i = 0; i < kRows; i += kStep, source += kStep * stride)
      cp_async<16>(tile + swizzled<kD>(r + i, c), source, r + i < count ? bytes : 0);
  } else {
    load_tile<T, kD, kRows>(tile, count, p, [&](int r) { return first + r * stride; });
  }
}

// Where the row is that a lane names to ldmatrix: of matrices that lie below each other in pairs, the pairs side by
// side, or the other way round.
template <int kD>
struct LanePlace {
  int row, mix;

  __device__ __forceinline__ LanePlace(int row, int column)
      : row(row * kD), mix(swizzled<kD>(row, column) - row * kD) {}
  __device__ __forceinline__ static LanePlace down_first() { return {lane() % 16, lane() / 16 * 8}; }
  __device__ __forceinline__ static LanePlace across_first() {
    return {lane() / 16 * 8 + lane() % 8, lane() / 8 % 2 * 8};
  }
  // Of the four matrices whose first element is (row, column), multiples of 8 and 16: there the permutation of parts
  // is that of row 0, and what it does to the bits of `column` is independent of the lane's.
  __device__ __forceinline__ int at(int first_row, int column) const { return row + first_row * kD + (column ^ mix); }

 private:
  __device__ __forceinline__ static int lane() { return threadIdx.x % 32; }
};

// Rows [row, row + 16) and columns [column, column + 16) as a first operand.
template <class T, int kD>
__device__ __forceinline__ void load_a(uint32_t (&a)[4], const T* tile, int row, int column) {
  ldmatrix<false>(a, tile + LanePlace<kD>::down_first().at(row, column));
}

// acc[kM·16, 8·kN] += a[kM·16, kD] · b[8·kN, kD]^T; a(fragment, m, k) brings rows 16m… and columns k… of a.
template <class T, int kD, int kM, int kN, class LoadA>
__device__ __forceinline__ void multiply_rows(float (&acc)[kM][kN][4], const LoadA& a, const T* b) {
  const auto place = LanePlace<kD>::across_first();
#pragma unroll
  for (int k = 0; k < kD; k += 16) {
    uint32_t left[kM][4];
#pragma unroll
    for (int m = 0; m < kM; m++) a(left[m], m, k);
#pragma unroll
    for (int n = 0; n < kN; n += 2) {
      uint32_t right[4];
      ldmatrix<false>(right, b + place.at(n * 8, k));
#pragma unroll
      for (int m = 0; m < kM; m++) {
        mma_16x8x16<T>(acc[m][n], left[m], {right[0], right[1]});
        mma_16x8x16<T>(acc[m][n + 1], left[m], {right[2], right[3]});
      }
    }
  }
}

// acc[kM·16, 8·kN] += probs[kM·16, 8·kK] · b[8·kK, columns first… of kD]; probs as a product left them, rounded to T.
template <class T, int kD, int kM, int kN, int kK>
__device__ __forceinline__ void multiply_columns(float (&acc)[kM][kN][4], const float (&probs)[kM][kK][4], const T* b,
                                                 int first) {
  const auto place = LanePlace<kD>::down_first();
#pragma unroll
  for (int k = 0; k < kK; k += 2) {
    uint32_t left[kM][4];
#pragma unroll
    for (int m = 0; m < kM; m++)
#pragma unroll
      for (int i = 0; i < 4; i++)
        left[m][i] = pack<T>(probs[m][k + i / 2][i % 2 * 2], probs[m][k + i / 2][i % 2 * 2 + 1]);
#pragma unroll
    for (int n = 0; n < kN; n += 2) {
      uint32_t right[4];
      ldmatrix<true>(right, b + place.at(k * 8, first + n * 8));
#pragma unroll
      for (int m = 0; m < kM; m++) {
        mma_16x8x16<T>(acc[m][n], left[m], {right[0], right[1]});
        mma_16x8x16<T>(acc[m][n + 1], left[m], {right[2], right[3]});
      }
    }
  }
}

// A warp writes 16 rows of 8·kN columns, times factor[0] (rows 0 to 7) and factor[1], to row(r) + first for r < count.
// They pass through its own 16 rows of `tile`, so that whole parts of 16 bytes are written.
template <class T, int kD, int kN, class Row>
__device__ __forceinline__ void store_rows(T* tile, const float (&acc)[kN][4], float factor0, float factor1, int first,
                                           int count, const AttentionParams& p, const Row& row) {
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  __syncwarp();
#pragma unroll
  for (int n = 0; n < kN; n++) {
    *reinterpret_cast<uint32_t*>(tile + swizzled<kD>(g, n * 8) + 2 * t) =
        pack<T>(acc[n][0] * factor0, acc[n][1] * factor0);
    *reinterpret_cast<uint32_t*>(tile + swizzled<kD>(g + 8, n * 8) + 2 * t) =
        pack<T>(acc[n][2] * factor1, acc[n][3] * factor1);
  }
  __syncwarp();
#pragma unroll 1
  for (int i = lane; i < 16 * kN; i += 32) {
    const int r = i / kN, c = i % kN * 8;
    const int elements = r < count ? p.D - first - c : 0;
    if (elements <= 0) continue;
    const auto part = Vector<T, 8>::load(tile + swizzled<kD>(r, c));
    T* out = row(r) + first + c;
    if (p.aligned && elements >= 8) {
      part.store(out);
    } else {
#pragma unroll
      for (int e = 0; e < 8; e++)
        if (e < elements) out[e] = part.at[e];
    }
  }
}

#endif

}  // namespace heed::cuda
