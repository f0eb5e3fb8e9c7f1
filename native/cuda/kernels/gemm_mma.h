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

// Brings the tiles of an operand that can be copied 16 bytes at a time, one after the other along K. A tile's rows are
// kColumns elements; `rows` and `columns` are what is left of the operand from this thread's first part on.
template <class T, int kOuter, int kDepth, int kThreads, bool kAlongDepth>
struct GemmLoader {
  static constexpr int kColumns = kAlongDepth ? kDepth : kOuter, kParts = kColumns / 8;
  static constexpr int kRowStep = kThreads / kParts, kCopies = kOuter * kDepth / 8 / kThreads;
  static_assert(kThreads % kParts == 0 && kOuter * kDepth % (8 * kThreads) == 0, "threads share a tile evenly");
  static_assert(kRowStep % 8 == 0, "a thread's parts are permuted alike");

  const T* from;
  int64_t row_step, depth_step;
  int rows, columns;
  int to;

  __device__ __forceinline__ GemmLoader(const GemmParams& p, const GemmOperand& x, const GemmTile& t, int64_t first,
                                        int64_t extent) {
    const int row = threadIdx.x / kParts, column = threadIdx.x % kParts * 8;
    const int64_t step = kAlongDepth ? x.outer : x.depth;
    from = gemm_tile_source<T>(p, x, t, first) + row * step + column;
    row_step = kRowStep * step;
    depth_step = kDepth * x.depth;
    const int outer_left = gemm_left(extent, first), depth_left = gemm_left(t.end, t.begin);
    rows = (kAlongDepth ? outer_left : depth_left) - row;
    columns = (kAlongDepth ? depth_left : outer_left) - column;
    to = swizzled<kColumns>(row, column);
    keep(to);
    keep(row_step);
    keep(depth_step);
    keep(kAlongDepth ? rows : columns);
  }

  // Begins the copy of the next tile.
  __device__ __forceinline__ void next(T* tile) {
    const int bytes = min(max(columns, 0), 8) * static_cast<int>(sizeof(T));
    const T* part = from;
#pragma unroll
    for (int i = 0; i < kCopies; i++) {
      cp_async<16>(tile + to + i * kRowStep * kColumns, part, i * kRowStep < rows ? bytes : 0);
      part += row_step;
    }
    from += depth_step;
    (kAlongDepth ? columns : rows) -= kDepth;
  }
};

// The same for any operand: 16 bytes at a time, 4, or element by element, as its width says.
template <class T, int kOuter, int kDepth, int kThreads, bool kAlongDepth>
struct GemmAnyLoader {
  static constexpr int kColumns = kAlongDepth ? kDepth : kOuter, kElements = kOuter * kDepth;

  const T* source;
  int64_t row_step, column_step, depth_step;
  int rows, columns;
  int width;

  __device__ __forceinline__ GemmAnyLoader(const GemmParams& p, const GemmOperand& x, const GemmTile& t, int64_t first,
                                           int64_t extent)
      : source(gemm_tile_source<T>(p, x, t, first)),
        row_step(kAlongDepth ? x.outer : x.depth),
        column_step(kAlongDepth ? x.depth : x.outer),
        depth_step(kDepth * x.depth),
        width(x.width) {
    const int outer_left = gemm_left(extent, first), depth_left = gemm_left(t.end, t.begin);
    rows = kAlongDepth ? outer_left : depth_left;
    columns = kAlongDepth ? depth_left : outer_left;
  }

  __device__ __forceinline__ void next(T* tile) {
    if (width == 16)
      copy<8>(tile);
    else if (width == 4)
      copy<2>(tile);
    else
      gather(tile);
    source += depth_step;
    (kAlongDepth ? columns : rows) -= kDepth;
  }

 private:
  template <int kPart>
  __device__ __forceinline__ void copy(T* tile) const {
    constexpr int kParts = kColumns / kPart, kCopies = kElements / kPart / kThreads;
    const int first = threadIdx.x / kParts, column = threadIdx.x % kParts * kPart;
    const int bytes = min(max(columns - column, 0), kPart) * static_cast<int>(sizeof(T));
#pragma unroll
    for (int i = 0; i < kCopies; i++) {
      const int row = first + i * (kThreads / kParts);
      cp_async<kPart * sizeof(T)>(tile + swizzled<kColumns>(row, column), source + row * row_step + column,
                                  row < rows ? bytes : 0);
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
      const T* from = source + row * row_step + column * column_step;
#pragma unroll
      for (int j = 0; j < 2; j++)
        pairs[i].at[j] = row < rows && column + j < columns ? from[j * column_step] : from_float<T>(0);
    }
#pragma unroll
    for (int i = 0; i < kCopies; i++)
      pairs[i].store(tile + swizzled<kColumns>(first + i * (kThreads / kPairs), column));
  }
};

// Reads fragments of 16 × 16 elements of a tile, as four matrices: number `block` across K from the warp's first one on
// and number `step` along K. kRowsFirst: the second matrix is below the first in memory, else beside it.
template <bool kAlongDepth, int kColumns, bool kRowsFirst, int kBlocks, int kSteps>
struct FragmentReader {
  int offsets[kAlongDepth ? kSteps : kBlocks];  // of those in one row of fragments; the others lie whole rows below

  __device__ __forceinline__ explicit FragmentReader(int outer) {
    const int lane = threadIdx.x % 32;
    const int row = kRowsFirst ? lane % 16 : lane / 16 * 8 + lane % 8;
    const int column = kRowsFirst ? lane / 16 * 8 : lane / 8 % 2 * 8;
#pragma unroll
    for (int i = 0; i < (kAlongDepth ? kSteps : kBlocks); i++) {
      offsets[i] = kAlongDepth ? swizzled<kColumns>(outer + row, i * 16 + column)
                               : swizzled<kColumns>(row, outer + i * 16 + column);
      keep(offsets[i]);
    }
  }

  template <class T>
  __device__ __forceinline__ void load(uint32_t (&r)[4], const T* tile, int block, int step) const {
    ldmatrix<!kAlongDepth>(r,
                           tile + offsets[kAlongDepth ? step : block] + (kAlongDepth ? block : step) * 16 * kColumns);
  }
};

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
  using LoaderA = std::conditional_t<kAligned, GemmLoader<T, kM, kK, kThreads, kAlongA>,
                                     GemmAnyLoader<T, kM, kK, kThreads, kAlongA>>;
  using LoaderB = std::conditional_t<kAligned, GemmLoader<T, kN, kK, kThreads, kAlongB>,
                                     GemmAnyLoader<T, kN, kK, kThreads, kAlongB>>;
  LoaderA a(p, p.a, t, t.m, p.m);
  LoaderB b(p, p.b, t, t.n, p.n);
  const int steps = (gemm_left(t.end, t.begin) + kK - 1) / kK;

  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int warp_m = warp / (kN / Shape::kWarpN) * Shape::kWarpM, warp_n = warp % (kN / Shape::kWarpN) * Shape::kWarpN;
  const FragmentReader<kAlongA, LoaderA::kColumns, kAlongA, kRowBlocks, kK / 16> reader_a(warp_m);
  const FragmentReader<kAlongB, LoaderB::kColumns, !kAlongB, kColumnBlocks / 2, kK / 16> reader_b(warp_n);
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
      T* const stage = stages + static_cast<unsigned>(ahead) % kStages * kStage;
      a.next(stage);
      b.next(stage + kM * kK);
    }
    cp_async_commit();
    if (step < 0) continue;
    const T* const tile_a = stages + static_cast<unsigned>(step) % kStages * kStage;
    const T* const tile_b = tile_a + kM * kK;
#pragma unroll
    for (int k = 0; k < kK / 16; k++) {
      uint32_t fa[kRowBlocks][4], fb[kColumnBlocks][2];
#pragma unroll
      for (int i = 0; i < kRowBlocks; i++) reader_a.load(fa[i], tile_a, i, k);
#pragma unroll
      for (int j = 0; j < kColumnBlocks; j += 2) {
        uint32_t r[4];
        reader_b.load(r, tile_b, j / 2, k);
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
