// The matrix product of f32, exactly: every product and sum is a fused multiply-add in f32.
//
// A block computes kM × kN elements, a thread kThreadM × kThreadN of them in registers, in steps of kK along K. Tiles
// come into shared memory kStages - 1 steps ahead (cp.async), always as [K][outer], so that a thread reads its elements
// four at a time whatever the operand's layout: one that is contiguous along K is transposed by copying word by word,
// with a pad of four columns that keeps the banks apart. The same way of copying takes any strides.
#pragma once
#include "cuda/kernels/cp_async.h"
#include "cuda/kernels/gemm_epilogue.h"

#if HEED_DEVICE_CODE

namespace heed::cuda {

// Brings the tiles of an operand, one after the other along K.
template <int kOuter, int kDepth, int kThreads>
struct GemmF32Loader {
  static constexpr int kPitch = kOuter + 4;

  const float* source;  // the tile's first element
  int64_t outer_step, depth_step;
  int outer_left, depth_left;  // elements of the operand from the tile's beginning on
  bool quads, along_depth;

  __device__ __forceinline__ GemmF32Loader(const GemmParams& p, const GemmOperand& x, const GemmTile& t, int64_t first,
                                           int64_t extent)
      : source(static_cast<const float*>(x.data) + BatchOffsets<1>(p, t.matrix, {x.batch}).at[0] + first * x.outer +
               t.begin * x.depth),
        outer_step(x.outer),
        depth_step(x.depth),
        outer_left(gemm_left(extent, first)),
        depth_left(gemm_left(t.end, t.begin)),
        quads(x.width == 16 && !x.along_depth),
        along_depth(x.along_depth) {}

  // Begins the copy of the next tile.
  __device__ __forceinline__ void next(float* tile) {
    if (quads)
      copy_quads(tile);
    else if (along_depth)
      copy_along_depth(tile);
    else
      copy_across(tile);
    source += kDepth * depth_step;
    depth_left -= kDepth;
  }

 private:
  __device__ __forceinline__ void copy_quads(float* tile) const {
    constexpr int kQuads = kOuter / 4, kCopies = kDepth * kQuads / kThreads;
    static_assert(kThreads % kQuads == 0 && kDepth * kQuads % kThreads == 0, "threads share a tile evenly");
    const int first = threadIdx.x / kQuads, outer = threadIdx.x % kQuads * 4;
    const int count = min(max(outer_left - outer, 0), 4);
    const float* from = source + first * depth_step + outer;
#pragma unroll
    for (int i = 0; i < kCopies; i++) {
      const int k = first + i * (kThreads / kQuads);
      const int bytes = k < depth_left ? count * static_cast<int>(sizeof(float)) : 0;
      cp_async<16>(tile + k * kPitch + outer, bytes ? from : source, bytes);
      from += kThreads / kQuads * depth_step;
    }
  }

  // Eight neighbouring threads copy 32 bytes along K.
  __device__ __forceinline__ void copy_along_depth(float* tile) const {
    constexpr int kRows = kThreads / 8;
    static_assert(kOuter % kRows == 0 && kDepth % 8 == 0, "threads share a tile evenly");
#pragma unroll 1
    for (int k = threadIdx.x % 8; k < kDepth; k += 8) {
      const float* from = source + threadIdx.x / 8 * outer_step + k * depth_step;
#pragma unroll
      for (int i = 0; i < kOuter / kRows; i++) {
        const int outer = threadIdx.x / 8 + i * kRows;
        copy_word(tile + k * kPitch + outer, from, outer < outer_left && k < depth_left);
        from += kRows * outer_step;
      }
    }
  }

  // Neighbouring threads copy neighbouring columns.
  __device__ __forceinline__ void copy_across(float* tile) const {
    constexpr int kRows = kThreads / kOuter;
    static_assert(kThreads % kOuter == 0 && kDepth % kRows == 0, "threads share a tile evenly");
    const int outer = threadIdx.x % kOuter;
    const float* from = source + outer * outer_step + threadIdx.x / kOuter * depth_step;
#pragma unroll 4
    for (int k = threadIdx.x / kOuter; k < kDepth; k += kRows) {
      copy_word(tile + k * kPitch + outer, from, outer < outer_left && k < depth_left);
      from += kRows * depth_step;
    }
  }

  __device__ __forceinline__ void copy_word(float* to, const float* from, bool inside) const {
    cp_async<4>(to, inside ? from : source, inside ? 4 : 0);
  }
};

template <int m, int n, int k, int thread_m, int thread_n, int stages>
struct GemmF32Shape {
  static constexpr int kM = m, kN = n, kK = k, kThreadM = thread_m, kThreadN = thread_n, kStages = stages;
  static constexpr int kThreads = m / thread_m * (n / thread_n);
};

template <class Shape>
__device__ void gemm_f32(const GemmParams& p) {
  constexpr int kM = Shape::kM, kN = Shape::kN, kK = Shape::kK, kStages = Shape::kStages;
  constexpr int kThreads = Shape::kThreads;
  constexpr int kRowQuads = Shape::kThreadM / 4, kColumnQuads = Shape::kThreadN / 4;
  using LoaderA = GemmF32Loader<kM, kK, kThreads>;
  using LoaderB = GemmF32Loader<kN, kK, kThreads>;
  constexpr int kTileA = kK * LoaderA::kPitch, kStage = kTileA + kK * LoaderB::kPitch;
  float* const stages = reinterpret_cast<float*>(gemm_shared);

  const GemmTile t = GemmTile::of_block<kM, kN>(p);
  if (t.matrix >= p.batch) return;
  LoaderA a(p, p.a, t, t.m, p.m);
  LoaderB b(p, p.b, t, t.n, p.n);
  const int steps = (gemm_left(t.end, t.begin) + kK - 1) / kK;

  // A warp is 4 × 8 threads. A thread's elements are quads, as far apart as the threads of the block reach.
  constexpr int kWarpsAcross = kN / Shape::kThreadN / 8;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int row = (warp / kWarpsAcross * 4 + lane / 8) * 4, column = (warp % kWarpsAcross * 8 + lane % 8) * 4;
  constexpr int kRowStep = kM / kRowQuads, kColumnStep = kN / kColumnQuads;
  float sums[kRowQuads * 4][kColumnQuads * 4] = {};
#pragma unroll 1
  for (int step = 1 - kStages; step < steps; step++) {
    if (step >= 0) {
      cp_async_wait<kStages - 2>();
      __syncthreads();
    }
    // Into the stage that was read in the last step, by all, as the barrier has seen.
    const int ahead = step + kStages - 1;
    if (ahead < steps) {
      float* const stage = stages + ahead % kStages * kStage;
      a.next(stage);
      b.next(stage + kTileA);
    }
    cp_async_commit();
    if (step < 0) continue;
    const float* const tile_a = stages + step % kStages * kStage + row;
    const float* const tile_b = stages + step % kStages * kStage + kTileA + column;
#pragma unroll
    for (int k = 0; k < kK; k++) {
      Vector<float, 4> x[kRowQuads], y[kColumnQuads];
#pragma unroll
      for (int i = 0; i < kRowQuads; i++) x[i] = Vector<float, 4>::load(tile_a + k * LoaderA::kPitch + i * kRowStep);
#pragma unroll
      for (int j = 0; j < kColumnQuads; j++)
        y[j] = Vector<float, 4>::load(tile_b + k * LoaderB::kPitch + j * kColumnStep);
#pragma unroll
      for (int i = 0; i < kRowQuads * 4; i++)
#pragma unroll
        for (int j = 0; j < kColumnQuads * 4; j++)
          sums[i][j] = fmaf(x[i / 4].at[i % 4], y[j / 4].at[j % 4], sums[i][j]);
    }
  }

  // The stages are done with; their memory takes the sums.
  cp_async_wait<0>();
  __syncthreads();
  float* const tile = reinterpret_cast<float*>(gemm_shared);
#pragma unroll
  for (int i = 0; i < kRowQuads * 4; i++)
#pragma unroll
    for (int j = 0; j < kColumnQuads; j++) {
      const Vector<float, 4> quad{{sums[i][j * 4], sums[i][j * 4 + 1], sums[i][j * 4 + 2], sums[i][j * 4 + 3]}};
      quad.store(tile + staged<kN>(row + i / 4 * kRowStep + i % 4, column + j * kColumnStep));
    }
  __syncthreads();
  gemm_finish<float, kM, kN, kThreads>(p, t, tile);
}

}  // namespace heed::cuda

#endif
