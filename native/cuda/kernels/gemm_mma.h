// The matrix product of bf16 and f16 on tensor cores.
//
// A block computes kM × kN elements, a warp kWarpM × kWarpN of them, in steps of kK along K. Tiles of a and b come into
// shared memory kStages - 1 steps ahead (cp.async), swizzled, and from there into fragments (ldmatrix). An operand that
// is contiguous along K has its tile as [outer][K], another one as [K][outer]; ldmatrix transposes the latter.
//
// kAligned: both operands can be copied 16 bytes at a time. Otherwise each of them is copied as it can be: 16 bytes, 4,
// or element by element, which takes any strides.
#pragma once
#include "cuda/kernels/gemm_epilogue.h"
#include "cuda/kernels/mma.h"

#if HEED_DEVICE_CODE

namespace heed::cuda {

// Brings the tiles of an operand, one after the other along K.
template <class T, int kOuter, int kDepth, int kThreads, bool kAlongDepth, bool kAligned>
struct GemmLoader {
  static constexpr int kRows = kAlongDepth ? kOuter : kDepth, kColumns = kAlongDepth ? kDepth : kOuter;
  static constexpr int kElements = kOuter * kDepth;

  const T* source;               // the tile's first element
  int64_t row_step, inner_step;  // strides of the tile's rows and columns
  int64_t depth_step;
  int outer_left, depth_left;  // elements of the operand from the tile's beginning on
  int width;

  __device__ __forceinline__ GemmLoader(const GemmParams& p, const GemmOperand& x, const GemmTile& t, int64_t first,
                                        int64_t extent)
      : source(static_cast<const T*>(x.data) + BatchOffsets<1>(p, t.matrix, {x.batch}).at[0] + first * x.outer +
               t.begin * x.depth),
        row_step(kAlongDepth ? x.outer : x.depth),
        inner_step(kAlongDepth ? x.depth : x.outer),
        depth_step(kDepth * x.depth),
        outer_left(gemm_left(extent, first)),
        depth_left(gemm_left(t.end, t.begin)),
        width(x.width) {}

  // Begins the copy of the next tile.
  __device__ __forceinline__ void next(T* tile) {
    if (kAligned || width == 16)
      copy<8>(tile);
    else if (width == 4)
      copy<2>(tile);
    else
      gather(tile);
    source += depth_step;
    depth_left -= kDepth;
  }

 private:
  __device__ __forceinline__ int rows_left() const { return kAlongDepth ? outer_left : depth_left; }
  __device__ __forceinline__ int columns_left() const { return kAlongDepth ? depth_left : outer_left; }

  template <int kPart>
  __device__ __forceinline__ void copy(T* tile) const {
    constexpr int kParts = kColumns / kPart, kCopies = kElements / kPart / kThreads;
    static_assert(kThreads % kParts == 0 && kElements % (kPart * kThreads) == 0, "threads share a tile evenly");
    const int first = threadIdx.x / kParts, column = threadIdx.x % kParts * kPart;
    const int count = min(max(columns_left() - column, 0), kPart);
    const T* from = source + first * row_step + column;
#pragma unroll
    for (int i = 0; i < kCopies; i++) {
      const int row = first + i * (kThreads / kParts);
      const int bytes = row < rows_left() ? count * static_cast<int>(sizeof(T)) : 0;
      cp_async<kPart * sizeof(T)>(tile + swizzled<kColumns>(row, column), bytes ? from : source, bytes);
      from += kThreads / kParts * row_step;
    }
  }

  // Two elements of a row at a time; all of them are on their way before the first is stored.
  __device__ __forceinline__ void gather(T* tile) const {
    constexpr int kPairs = kColumns / 2, kCopies = kElements / 2 / kThreads;
    const int first = threadIdx.x / kPairs, column = threadIdx.x % kPairs * 2;
    Vector<T, 2> pairs[kCopies];
#pragma unroll
    for (int i = 0; i < kCopies; i++) {
      const int row = first + i * (kThreads / kPairs);
      const T* from = source + row * row_step + column * inner_step;
#pragma unroll
      for (int j = 0; j < 2; j++)
        pairs[i].at[j] = row < rows_left() && column + j < columns_left() ? from[j * inner_step] : from_float<T>(0);
    }
#pragma unroll
    for (int i = 0; i < kCopies; i++)
      pairs[i].store(tile + swizzled<kColumns>(first + i * (kThreads / kPairs), column));
  }
};

// 16 × 16 elements of a tile, at `outer` and `depth`, as four matrices of a fragment. kRowsFirst: the second matrix is
// below the first in memory, else beside it.
template <bool kAlongDepth, int kColumns, bool kRowsFirst, class T>
__device__ __forceinline__ void load_fragment(uint32_t (&r)[4], const T* tile, int outer, int depth) {
  const int lane = threadIdx.x % 32;
  const int row = kRowsFirst ? lane % 16 : lane / 16 * 8 + lane % 8;
  const int column = kRowsFirst ? lane / 16 * 8 : lane / 8 % 2 * 8;
  ldmatrix<!kAlongDepth>(
      r, tile + swizzled<kColumns>((kAlongDepth ? outer : depth) + row, (kAlongDepth ? depth : outer) + column));
}

template <int m, int n, int k, int warp_m, int warp_n, int stages>
struct GemmMmaShape {
  static constexpr int kM = m, kN = n, kK = k, kWarpM = warp_m, kWarpN = warp_n, kStages = stages;
  static constexpr int kThreads = m / warp_m * (n / warp_n) * 32;
};

template <class T, class Shape, bool kAlongA, bool kAlongB, bool kAligned>
__device__ void gemm_mma(const GemmParams& p) {
  constexpr int kM = Shape::kM, kN = Shape::kN, kK = Shape::kK, kStages = Shape::kStages;
  constexpr int kThreads = Shape::kThreads;
  constexpr int kRowBlocks = Shape::kWarpM / 16, kColumnBlocks = Shape::kWarpN / 8;
  constexpr int kStage = (kM + kN) * kK;
  T* const stages = reinterpret_cast<T*>(gemm_shared);

  const GemmTile t = GemmTile::of_block<kM, kN>(p);
  if (t.matrix >= p.batch) return;
  GemmLoader<T, kM, kK, kThreads, kAlongA, kAligned> a(p, p.a, t, t.m, p.m);
  GemmLoader<T, kN, kK, kThreads, kAlongB, kAligned> b(p, p.b, t, t.n, p.n);
  const int steps = (gemm_left(t.end, t.begin) + kK - 1) / kK;

  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int warp_m = warp / (kN / Shape::kWarpN) * Shape::kWarpM, warp_n = warp % (kN / Shape::kWarpN) * Shape::kWarpN;
  float sums[kRowBlocks][kColumnBlocks][4] = {};
#pragma unroll 1
  for (int step = 1 - kStages; step < steps; step++) {
    if (step >= 0) {
      cp_async_wait<kStages - 2>();
      __syncthreads();
    }
    // Into the stage that was read in the last step, by all, as the barrier has seen.
    const int ahead = step + kStages - 1;
    if (ahead < steps) {
      T* const stage = stages + ahead % kStages * kStage;
      a.next(stage);
      b.next(stage + kM * kK);
    }
    cp_async_commit();
    if (step < 0) continue;
    const T* const tile_a = stages + step % kStages * kStage;
    const T* const tile_b = tile_a + kM * kK;
#pragma unroll
    for (int k = 0; k < kK; k += 16) {
      uint32_t fa[kRowBlocks][4], fb[kColumnBlocks][2];
#pragma unroll
      for (int i = 0; i < kRowBlocks; i++)
        load_fragment<kAlongA, kAlongA ? kK : kM, kAlongA>(fa[i], tile_a, warp_m + i * 16, k);
#pragma unroll
      for (int j = 0; j < kColumnBlocks; j += 2) {
        uint32_t r[4];
        load_fragment<kAlongB, kAlongB ? kK : kN, !kAlongB>(r, tile_b, warp_n + j * 8, k);
        fb[j][0] = r[0], fb[j][1] = r[1], fb[j + 1][0] = r[2], fb[j + 1][1] = r[3];
      }
#pragma unroll
      for (int i = 0; i < kRowBlocks; i++)
#pragma unroll
        for (int j = 0; j < kColumnBlocks; j++) mma_16x8x16<T>(sums[i][j], fa[i], fb[j]);
    }
  }

  // The stages are done with; their memory takes the sums.
  cp_async_wait<0>();
  __syncthreads();
  float* const tile = reinterpret_cast<float*>(gemm_shared);
#pragma unroll
  for (int i = 0; i < kRowBlocks; i++)
#pragma unroll
    for (int j = 0; j < kColumnBlocks; j++)
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const int row = warp_m + i * 16 + half * 8 + lane / 4, column = warp_n + j * 8 + lane % 4 * 2;
        const Vector<float, 2> pair{{sums[i][j][half * 2], sums[i][j][half * 2 + 1]}};
        pair.store(tile + staged<kN>(row, column));
      }
  __syncthreads();
  gemm_finish<T, kM, kN, kThreads>(p, t, tile);
}

}  // namespace heed::cuda

#endif
