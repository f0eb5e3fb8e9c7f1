// The matrix product of bf16 and f16 on tensor cores.
//
// A block computes kM × kN elements in steps of kK along K, and a warp kWarpM × kWarpN of them. Tiles of a and b are
// copied into shared memory kStages - 1 steps ahead (cp.async, gemm_loader.h), and from there into fragments
// (ldmatrix). An operand that is contiguous along K has tiles [outer][K]; another one has tiles [K][outer], which
// ldmatrix transposes.
//
// The loop should consist of matrix instructions and the instructions that feed them. So addresses advance by
// additions, and everything else about them is a constant in the instruction. The rest of K after whole steps has a
// path of its own.
//
// kAligned means that both operands can be copied 16 bytes at a time. Otherwise each of them is copied in its own way:
// 16 bytes, 4 bytes, or element by element, which works for any strides. b may also be a weight that is decoded while
// its tiles are loaded (gemm_decoded.h).
#pragma once
#include "cuda/kernels/gemm_epilogue.h"
#include "cuda/kernels/gemm_loader.h"
#include "cuda/kernels/gemm_parts.h"
#include "cuda/kernels/gemm_sum.h"

#if HEED_DEVICE_CODE

namespace heed::cuda {

// Sums over K of an operand's tiles, computed as products with ones: sums of at most kMost rows or columns, of which
// each warp has an equal share.
template <class T, class Stages, int kMost>
struct GemmMmaSum {
  static constexpr int kDepth = Stages::kDepth, kThreads = Stages::kThreads;
  __host__ __device__ static constexpr int share(int outer) {
    return outer / (kThreads / 32) < 16 ? 16 : outer / (kThreads / 32);
  }
  float sums[share(kMost) / 8][4] = {};

  // Adds the tile at `tile`.
  template <int kOuter, bool kAlongDepth>
  __device__ __forceinline__ void add(uint32_t tile) {
    constexpr int kShare = share(kOuter);
    static_assert(kShare % 16 == 0, "fragments of 16");
    const int outer = threadIdx.x / 32 * kShare;
    if (outer >= kOuter) return;
    const uint32_t one = pack<T>(1, 1), ones[4] = {one, one, one, one};
    const FragmentReader<T, Stages, kAlongDepth, kAlongDepth ? kDepth : kOuter, !kAlongDepth, kShare / 16> reader(
        tile, outer);
    unrolled<kDepth / 16>([&](auto k) {
      unrolled<kShare / 16>([&](auto j) {
        uint32_t r[4];
        reader.template load<j, k, 0>(r, 0);
        mma_16x8x16<T>(sums[2 * j], ones, {r[0], r[1]});
        mma_16x8x16<T>(sums[2 * j + 1], ones, {r[2], r[3]});
      });
    });
  }

  // All rows of the product are the same; the first lanes have the first row.
  template <int kOuter>
  __device__ __forceinline__ void put(const GemmParams& p, const GemmTile& t, int64_t first, int64_t size) const {
    constexpr int kShare = share(kOuter);
    const int lane = threadIdx.x % 32, outer = threadIdx.x / 32 * kShare;
    if (lane >= 4 || outer >= kOuter) return;
#pragma unroll
    for (int j = 0; j < kShare / 8; j++)
#pragma unroll
      for (int e = 0; e < 2; e++) {
        const int64_t at = first + outer + j * 8 + lane * 2 + e;
        if (at < size) gemm_put_sum<T>(p, t, at, size, sums[j][e]);
      }
  }
};

// The stages that the loaders of a kernel share. The code has a copy for each stage, or one copy for all.
template <class T, class Shape, bool kUnrolled>
using GemmMmaStages = GemmStages<Shape::kK, Shape::kThreads, kUnrolled ? Shape::kStages : 1,
                                 Shape::kStageElements* static_cast<int>(sizeof(T))>;

// Multiplies the tiles that the loaders load; `operand_b` is what LoaderB loads from.
template <class T, class Shape, class Stages, class LoaderA, class LoaderB, class OperandB>
__device__ __forceinline__ void gemm_mma_tile(const GemmParams& p, const OperandB& operand_b) {
  constexpr int kM = Shape::kM, kN = Shape::kN, kK = Shape::kK, kStages = Shape::kStages;
  constexpr int kThreads = Shape::kThreads;
  constexpr bool kAlongA = LoaderA::kAlong, kAlongB = LoaderB::kAlong;
  constexpr int kRowBlocks = Shape::kWarpM / 16, kColumnBlocks = Shape::kWarpN / 8;
  constexpr int kTileA = kM * kK * sizeof(T), kStageBytes = kTileA + kN * kK * sizeof(T);
  static_assert(kStageBytes == Stages::kStageBytes, "what the host function allocates");
  constexpr int kUnrolled = Stages::kUnrolled;

  const GemmTile t = GemmTile::of_block<kM, kN>(p);
  if (t.matrix >= p.batch) return;
  const uint32_t tile_a = shared_address(gemm_shared), tile_b = tile_a + kTileA;
  LoaderA a(p, p.a, t, t.m, p.m, tile_a);
  LoaderB b(p, operand_b, t, t.n, p.n, tile_b);
  const int64_t depth = max(int64_t{0}, t.end - t.begin);
  const int whole = static_cast<int>(depth / kK), rest = static_cast<int>(depth % kK);
  const int steps = max(whole + (rest > 0), 1);  // an empty K takes one step of zeros
  // The part of the place of a step's stage that the unrolled code does not know.
  const auto place = [](int step) -> uint32_t { return kUnrolled > 1 ? 0 : step % kStages * kStageBytes; };
  // Every step commits a group of copies, even if nothing is left to copy.
  const auto copy = [&](int step, auto stage) {
    const uint32_t at = place(step);
    if (step < whole) {
      a.template next<stage>(at);
      if constexpr (!LoaderB::kDecodes) b.template next<stage>(at);
    } else if (step < steps) {
      a.template last<stage>(at, rest);
      if constexpr (!LoaderB::kDecodes) b.template last<stage>(at, rest);
    }
    if constexpr (LoaderB::kDecodes)
      if (step < steps) b.next(at);
    cp_async_commit();
  };

  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int warp_m = warp / (kN / Shape::kWarpN) * Shape::kWarpM, warp_n = warp % (kN / Shape::kWarpN) * Shape::kWarpN;
  const FragmentReader<T, Stages, kAlongA, LoaderA::kColumns, kAlongA, kRowBlocks> reader_a(tile_a, warp_m);
  const FragmentReader<T, Stages, kAlongB, LoaderB::kColumns, !kAlongB, kColumnBlocks / 2> reader_b(tile_b, warp_n);
  const Summed summed = LoaderB::kDecodes ? Summed::none : gemm_summed(p, t);
  GemmMmaSum<T, Stages, (kM > kN ? kM : kN)> operand_sum;
  Four sums[kRowBlocks][kColumnBlocks] = {};

  // Runs one step; returns false after the last.
  int step = 0;
  const auto advance = [&](auto stage) {
    cp_async_wait<kStages - 2>();
    __syncthreads();
    // Copies into the stage that was read in the last step; the barrier guarantees that all threads have read it.
    copy(step + kStages - 1, Constant<(stage + kStages - 1) % kUnrolled>{});
    const uint32_t at = place(step);
    unrolled<kK / 16>([&](auto k) {
      uint32_t fa[kRowBlocks][4], fb[kColumnBlocks][2];
      unrolled<kRowBlocks>([&](auto i) { reader_a.template load<i, k, stage>(fa[i], at); });
      unrolled<kColumnBlocks / 2>([&](auto j) {
        uint32_t r[4];
        reader_b.template load<j, k, stage>(r, at);
        fb[2 * j][0] = r[0], fb[2 * j][1] = r[1], fb[2 * j + 1][0] = r[2], fb[2 * j + 1][1] = r[3];
      });
#pragma unroll
      for (int i = 0; i < kRowBlocks; i++)
#pragma unroll
        for (int j = 0; j < kColumnBlocks; j++) mma_16x8x16<T>(sums[i][j].at, fa[i], fb[j]);
    });
    if (summed == Summed::a)
      operand_sum.template add<kM, kAlongA>(tile_a + stage * kStageBytes + at);
    else if (summed == Summed::b)
      operand_sum.template add<kN, kAlongB>(tile_b + stage * kStageBytes + at);
    return ++step < steps;
  };
  if constexpr (kUnrolled > 1) {
    unrolled<kStages - 1>([&](auto stage) { copy(stage, stage); });
  } else {
#pragma unroll 1
    for (int ahead = 0; ahead < kStages - 1; ahead++) copy(ahead, Constant<0>{});
  }
#pragma unroll 1
  while (unrolled_while<kUnrolled>(advance)) {
  }
  if (summed == Summed::a) operand_sum.template put<kM>(p, t, t.m, p.m);
  if (summed == Summed::b) operand_sum.template put<kN>(p, t, t.n, p.n);

  // The stages are no longer needed; their memory takes the sums.
  cp_async_wait<0>();
  __syncthreads();
  float* const tile = reinterpret_cast<float*>(gemm_shared);
  constexpr int kPermuted = kColumnBlocks < 4 ? kColumnBlocks : 4;
  int columns[kPermuted];
#pragma unroll
  for (int j = 0; j < kPermuted; j++) columns[j] = staged<kN>(warp_m + lane / 4, warp_n + j * 8 + lane % 4 * 2);
#pragma unroll
  for (int i = 0; i < kRowBlocks; i++)
#pragma unroll
    for (int j = 0; j < kColumnBlocks; j++)
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const Vector<float, 2> pair{{sums[i][j].at[half * 2], sums[i][j].at[half * 2 + 1]}};
        pair.store(tile + columns[j % kPermuted] + j / kPermuted * 32 + (i * 16 + half * 8) * kN);
      }
  __syncthreads();
  gemm_finish<T, kM, kN, kThreads>(p, t, summed, tile);
}

template <class T, class Shape, bool kAlongA, bool kAlongB, bool kAligned>
__device__ void gemm_mma(const GemmParams& p) {
  constexpr int kM = Shape::kM, kN = Shape::kN;
  using Stages = GemmMmaStages<T, Shape, kAligned>;
  if constexpr (kAligned)
    gemm_mma_tile<T, Shape, Stages, GemmLoader<T, Stages, kM, kAlongA>, GemmLoader<T, Stages, kN, kAlongB>>(p, p.b);
  else
    gemm_mma_tile<T, Shape, Stages, GemmAnyLoader<T, Stages, kM, kAlongA>, GemmAnyLoader<T, Stages, kN, kAlongB>>(p,
                                                                                                                  p.b);
}

}  // namespace heed::cuda

#endif
