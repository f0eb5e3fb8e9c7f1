// The exact matrix product of f32: every product and sum is a fused multiply-add in f32.
//
// A block computes kM × kN elements in steps of kK along K, and a thread kThreadM × kThreadN of them in registers.
// Tiles are copied into shared memory kStages - 1 steps ahead (cp.async). They are always laid out as [K][outer], so
// that a thread reads its elements four at a time whatever the operand's layout: an operand that is contiguous along K
// is transposed by copying word by word, with a pad of four columns that keeps the banks apart. Copying word by word
// works for any strides.
#pragma once
#include "cuda/kernels/cp_async.h"
#include "cuda/kernels/gemm_epilogue.h"
#include "cuda/kernels/gemm_parts.h"
#include "cuda/kernels/gemm_sum.h"

#if HEED_DEVICE_CODE

namespace heed::cuda {

// Loads the tiles of an operand, one after the other along K: whole tiles with next(), and the rest of K with last(),
// which pads with zeros. `outer` is the extent of the operand that is left from this thread's first words on.
template <int kOuter, int kDepth, int kThreads>
struct GemmF32Loader {
  static constexpr int kPitch = kOuter + 4;
  static constexpr bool kDecodes = false;

  const GemmOperand& x;
  const float* from;
  int outer, first_depth;
  uint32_t to;  // bytes

  __device__ __forceinline__ GemmF32Loader(const GemmParams& p, const GemmOperand& x, const GemmTile& t, int64_t first,
                                           int64_t extent)
      : x(x) {
    const int thread = threadIdx.x;
    const bool quads = x.width == 16;
    const int o = x.along_depth ? thread / 8 : quads ? thread % (kOuter / 4) * 4 : thread % kOuter;
    first_depth = x.along_depth ? thread % 8 : thread / (quads ? kOuter / 4 : kOuter);
    from = gemm_tile_source<float>(p, x, t, first) + o * x.outer + first_depth * x.depth;
    outer = gemm_left(extent, first) - o;
    to = (first_depth * kPitch + o) * 4;
    keep(to);
  }

  __device__ __forceinline__ void next(uint32_t tile) {
    copy<true>(tile + to, kDepth);
    from += kDepth * x.depth;
  }
  // Loads `depth` elements of K.
  __device__ __forceinline__ void last(uint32_t tile, int depth) const { copy<false>(tile + to, depth); }

 private:
  template <bool kWhole>
  __device__ __forceinline__ void copy(uint32_t tile, int depth) const {
    if (x.along_depth)
      copy_along_depth<kWhole>(tile, depth - first_depth);
    else if (x.width == 16)
      copy_across<4, kWhole>(tile, depth - first_depth);
    else
      copy_across<1, kWhole>(tile, depth - first_depth);
  }

  // Eight neighbouring threads copy 32 bytes along K.
  template <bool kWhole>
  __device__ __forceinline__ void copy_along_depth(uint32_t tile, int depth) const {
    constexpr int kRows = kThreads / 8;
    static_assert(kOuter % kRows == 0 && kDepth % 8 == 0, "threads share a tile evenly");
    // Computed again in each step, because the values that the compiler derives from them for all ways of copying do
    // not fit into registers.
    int outer = this->outer;
    int64_t outer_step = kRows * x.outer, depth_step = 8 * x.depth;
    keep(outer), keep(outer_step), keep(depth_step);
    const float* row = from;
    unrolled<kOuter / kRows>([&](auto o) {
      const int bytes = o * kRows < outer ? 4 : 0;
      const float* word = row;
      unrolled<kDepth / 8>([&](auto k) {
        cp_async<4, (k * 8 * kPitch + o * kRows) * 4>(tile, word, kWhole || k * 8 < depth ? bytes : 0);
        word += depth_step;
      });
      row += outer_step;
    });
  }

  // Neighbouring threads copy neighbouring words of a row of the tile, or quads of them.
  template <int kWords, bool kWhole>
  __device__ __forceinline__ void copy_across(uint32_t tile, int depth) const {
    constexpr int kStep = kThreads * kWords / kOuter;
    static_assert(kThreads * kWords % kOuter == 0 && kDepth % kStep == 0, "threads share a tile evenly");
    int bytes = min(max(outer, 0), kWords) * 4;
    int64_t depth_step = kStep * x.depth;
    keep(bytes), keep(depth_step);
    const float* word = from;
    unrolled<kDepth / kStep>([&](auto k) {
      cp_async<kWords * 4, k * kStep * kPitch * 4>(tile, word, kWhole || k * kStep < depth ? bytes : 0);
      word += depth_step;
    });
  }
};

// Sums over K of an operand's tiles: a thread has one column and every kStep-th row of each.
template <int kOuter, int kDepth, int kThreads>
struct GemmF32Sum {
  static constexpr int kPitch = kOuter + 4, kStep = kThreads / kOuter;
  static_assert(kThreads % kOuter == 0 && kDepth % kStep == 0, "threads share a tile evenly");

  __device__ __forceinline__ static void add(const float* tile, float& sum) {
    const float* const at = tile + threadIdx.x / kOuter * kPitch + threadIdx.x % kOuter;
#pragma unroll
    for (int k = 0; k < kDepth; k += kStep) sum += at[k * kPitch];
  }

  __device__ __forceinline__ static void put(const GemmParams& p, const GemmTile& t, int64_t first, int64_t size,
                                             float sum) {
    __shared__ float sums[kThreads];
    sums[threadIdx.x] = sum;
    __syncthreads();
    const int64_t at = first + threadIdx.x;
    if (threadIdx.x >= kOuter || at >= size) return;
#pragma unroll
    for (int i = 1; i < kStep; i++) sum += sums[threadIdx.x + i * kOuter];
    gemm_put_sum<float>(p, t, at, size, sum);
  }
};

// Multiplies the tiles of a, and of b as LoaderB loads them from `operand_b`.
template <class Shape, class LoaderB, class OperandB>
__device__ __forceinline__ void gemm_f32_part(const GemmParams& p, const OperandB& operand_b, const GemmTile& t) {
  constexpr int kM = Shape::kM, kN = Shape::kN, kK = Shape::kK, kStages = Shape::kStages;
  constexpr int kThreads = Shape::kThreads;
  constexpr int kRowQuads = Shape::kThreadM / 4, kColumnQuads = Shape::kThreadN / 4, kRows = kRowQuads * 4;
  using LoaderA = GemmF32Loader<kM, kK, kThreads>;
  using SumA = GemmF32Sum<kM, kK, kThreads>;
  using SumB = GemmF32Sum<kN, kK, kThreads>;
  constexpr int kTileA = kK * LoaderA::kPitch, kStage = kTileA + kK * LoaderB::kPitch;
  static_assert(kStage == Shape::kStageElements, "what the host function allocates");

  LoaderA a(p, p.a, t, t.m, p.m);
  LoaderB b(p, operand_b, t, t.n, p.n);
  const int64_t depth = max(int64_t{0}, t.end - t.begin);
  const int whole = static_cast<int>(depth / kK), rest = static_cast<int>(depth % kK), steps = whole + (rest > 0);
  float* const stages = reinterpret_cast<float*>(gemm_shared);
  const uint32_t tile_a = shared_address(gemm_shared), tile_b = tile_a + kTileA * 4;
  // Every step commits a group of copies, even if nothing is left to copy.
  const auto copy = [&](int step) {
    const uint32_t stage = static_cast<unsigned>(step) % kStages * (kStage * 4);
    if (step < whole) {
      a.next(tile_a + stage);
      if constexpr (!LoaderB::kDecodes) b.next(tile_b + stage);
    } else if (step < steps) {
      a.last(tile_a + stage, rest);
      if constexpr (!LoaderB::kDecodes) b.last(tile_b + stage, rest);
    }
    if constexpr (LoaderB::kDecodes)
      if (step < steps) b.next(tile_b + stage);
    cp_async_commit();
  };

  // A warp is 4 × 8 threads. A thread's elements are quads whose distance is the reach of the block's threads.
  constexpr int kWarpsAcross = kN / Shape::kThreadN / 8;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int row = (warp / kWarpsAcross * 4 + lane / 8) * 4, column = (warp % kWarpsAcross * 8 + lane % 8) * 4;
  constexpr int kRowStep = kM / kRowQuads, kColumnStep = kN / kColumnQuads;
  const Summed summed = LoaderB::kDecodes ? Summed::none : gemm_summed(p, t);
  float operand_sum = 0;
  Four sums[kRows][kColumnQuads] = {};

#pragma unroll 1
  for (int step = 0; step < kStages - 1; step++) copy(step);
#pragma unroll 1
  for (int step = 0; step < steps; step++) {
    cp_async_wait<kStages - 2>();
    __syncthreads();
    // Copies into the stage that was read in the last step; the barrier guarantees that all threads have read it.
    copy(step + kStages - 1);
    const float* const stage = stages + static_cast<unsigned>(step) % kStages * kStage;
    const float *const from_a = stage + row, *const from_b = stage + kTileA + column;
#pragma unroll
    for (int k = 0; k < kK; k++) {
      Four x[kRowQuads], y[kColumnQuads];
#pragma unroll
      for (int i = 0; i < kRowQuads; i++) x[i] = Four::load(from_a + k * LoaderA::kPitch + i * kRowStep);
#pragma unroll
      for (int j = 0; j < kColumnQuads; j++) y[j] = Four::load(from_b + k * LoaderB::kPitch + j * kColumnStep);
#pragma unroll
      for (int i = 0; i < kRows; i++)
#pragma unroll
        for (int j = 0; j < kColumnQuads; j++)
#pragma unroll
          for (int e = 0; e < 4; e++) sums[i][j].at[e] = fmaf(x[i / 4].at[i % 4], y[j].at[e], sums[i][j].at[e]);
    }
    if (summed == Summed::a) SumA::add(stage, operand_sum);
    if (summed == Summed::b) SumB::add(stage + kTileA, operand_sum);
  }
  if (summed == Summed::a) SumA::put(p, t, t.m, p.m, operand_sum);
  if (summed == Summed::b) SumB::put(p, t, t.n, p.n, operand_sum);

  // The stages are no longer needed; their memory takes the sums.
  cp_async_wait<0>();
  __syncthreads();
  float* const tile = reinterpret_cast<float*>(gemm_shared);
#pragma unroll
  for (int i = 0; i < kRows; i++)
#pragma unroll
    for (int j = 0; j < kColumnQuads; j++)
      sums[i][j].store(tile + staged<kN>(row + i / 4 * kRowStep + i % 4, column + j * kColumnStep));
  __syncthreads();
  gemm_finish<float, kM, kN, kThreads>(p, t, summed, tile);
}

template <class Shape>
__device__ void gemm_f32(const GemmParams& p) {
  using LoaderB = GemmF32Loader<Shape::kN, Shape::kK, Shape::kThreads>;
  gemm_turns<Shape>(p, [&](const GemmTile& t) { gemm_f32_part<Shape, LoaderB>(p, p.b, t); });
}

}  // namespace heed::cuda

#endif
