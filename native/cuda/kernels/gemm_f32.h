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

// Brings the tiles of an operand, one after the other along K. `outer` and `depth` are what is left of the operand from
// this thread's first words on.
template <int kOuter, int kDepth, int kThreads>
struct GemmF32Loader {
  static constexpr int kPitch = kOuter + 4;

  const float* from;
  int64_t outer_step, depth_step;
  int outer, depth;
  int to;
  bool along_depth, quads;

  __device__ __forceinline__ GemmF32Loader(const GemmParams& p, const GemmOperand& x, const GemmTile& t, int64_t first,
                                           int64_t extent)
      : outer_step(x.outer), depth_step(x.depth), along_depth(x.along_depth), quads(x.width == 16) {
    const int thread = threadIdx.x;
    const int o = along_depth ? thread / 8 : quads ? thread % (kOuter / 4) * 4 : thread % kOuter;
    const int k = along_depth ? thread % 8 : thread / (quads ? kOuter / 4 : kOuter);
    from = gemm_tile_source<float>(p, x, t, first) + o * x.outer + k * x.depth;
    outer = gemm_left(extent, first) - o;
    depth = gemm_left(t.end, t.begin) - k;
    to = k * kPitch + o;
  }

  // Begins the copy of the next tile.
  __device__ __forceinline__ void next(float* tile) {
    if (along_depth)
      copy_along_depth(tile + to);
    else if (quads)
      copy_across<4>(tile + to);
    else
      copy_across<1>(tile + to);
    from += kDepth * depth_step;
    depth -= kDepth;
  }

 private:
  // Eight neighbouring threads copy 32 bytes along K.
  __device__ __forceinline__ void copy_along_depth(float* tile) const {
    constexpr int kRows = kThreads / 8;
    static_assert(kOuter % kRows == 0 && kDepth % 8 == 0, "threads share a tile evenly");
#pragma unroll 2
    for (int k = 0; k < kDepth; k += 8) {
      const int bytes = k < depth ? 4 : 0;
      const float* word = from + k * depth_step;
#pragma unroll
      for (int o = 0; o < kOuter; o += kRows) {
        cp_async<4>(tile + k * kPitch + o, word, o < outer ? bytes : 0);
        word += kRows * outer_step;
      }
    }
  }

  // Neighbouring threads copy neighbouring words of a row of the tile, or quads of them.
  template <int kWords>
  __device__ __forceinline__ void copy_across(float* tile) const {
    constexpr int kStep = kThreads * kWords / kOuter;
    static_assert(kThreads * kWords % kOuter == 0 && kDepth % kStep == 0, "threads share a tile evenly");
    const int bytes = min(max(outer, 0), kWords) * 4;
    const float* word = from;
#pragma unroll 4
    for (int k = 0; k < kDepth; k += kStep) {
      cp_async<kWords * 4>(tile + k * kPitch, word, k < depth ? bytes : 0);
      word += kStep * depth_step;
    }
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
      float* const stage = stages + static_cast<unsigned>(ahead) % kStages * kStage;
      a.next(stage);
      b.next(stage + kTileA);
    }
    cp_async_commit();
    if (step < 0) continue;
    const float* const tile_a = stages + static_cast<unsigned>(step) % kStages * kStage + row;
    const float* const tile_b = stages + static_cast<unsigned>(step) % kStages * kStage + kTileA + column;
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
