// The matrix product of bf16 and f16 on tensor cores.
//
// A block computes kM × kN elements, a warp kWarpM × kWarpN of them, in steps of kK along K. Tiles of a and b come into
// shared memory kStages - 1 steps ahead (cp.async, gemm_loader.h), and from there into fragments (ldmatrix). An operand
// that is contiguous along K has its tile as [outer][K], another one as [K][outer]; ldmatrix transposes the latter.
//
// The loop is to be matrix instructions and what feeds them: addresses advance by additions, everything else about them
// is a constant in the instruction; what is left of K after whole steps has a path of its own.
//
// kAligned: both operands can be copied 16 bytes at a time. Otherwise each of them is copied as it can be: 16 bytes, 4,
// or element by element, which takes any strides.
#pragma once
#include "cuda/kernels/gemm_epilogue.h"
#include "cuda/kernels/gemm_loader.h"
#include "cuda/kernels/gemm_parts.h"
#include "cuda/kernels/gemm_sum.h"

#if HEED_DEVICE_CODE

namespace heed::cuda {

template <int m, int n, int k, int warp_m, int warp_n, int stages>
struct GemmMmaShape {
  static constexpr int kM = m, kN = n, kK = k, kWarpM = warp_m, kWarpN = warp_n, kStages = stages;
  static constexpr int kThreads = m / warp_m * (n / warp_n) * 32;
};

// Sums over K of an operand's tiles, as products with ones: of at most kMost rows or columns, of which each warp has an
// equal share.
template <class T, int kMost, int kDepth, int kThreads>
struct GemmMmaSum {
  __host__ __device__ static constexpr int share(int outer) {
    return outer / (kThreads / 32) < 16 ? 16 : outer / (kThreads / 32);
  }
  float sums[share(kMost) / 8][4] = {};

  // Adds the tile at `tile` of stage `stage`.
  template <int kOuter, bool kAlongDepth>
  __device__ __forceinline__ void add(uint32_t tile, uint32_t stage) {
    constexpr int kShare = share(kOuter);
    static_assert(kShare % 16 == 0, "fragments of 16");
    const int outer = threadIdx.x / 32 * kShare;
    if (outer >= kOuter) return;
    const uint32_t one = pack<T>(1, 1), ones[4] = {one, one, one, one};
    const FragmentReader<T, kAlongDepth, kAlongDepth ? kDepth : kOuter, !kAlongDepth, kShare / 16, kDepth / 16> reader(
        tile, outer);
    unrolled<kDepth / 16>([&](auto k) {
      unrolled<kShare / 16>([&](auto j) {
        uint32_t r[4];
        reader.template load<j, k>(r, stage);
        mma_16x8x16<T>(sums[2 * j], ones, {r[0], r[1]});
        mma_16x8x16<T>(sums[2 * j + 1], ones, {r[2], r[3]});
      });
    });
  }

  // All rows of the product are the same; the first lanes have the first one.
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

template <class T, class Shape, bool kAlongA, bool kAlongB, bool kAligned>
__device__ void gemm_mma(const GemmParams& p) {
  constexpr int kM = Shape::kM, kN = Shape::kN, kK = Shape::kK, kStages = Shape::kStages;
  constexpr int kThreads = Shape::kThreads;
  constexpr int kRowBlocks = Shape::kWarpM / 16, kColumnBlocks = Shape::kWarpN / 8;
  constexpr uint32_t kTileA = kM * kK * sizeof(T), kStage = kTileA + kN * kK * sizeof(T);

  const GemmTile t = GemmTile::of_block<kM, kN>(p);
  if (t.matrix >= p.batch) return;
  using LoaderA = std::conditional_t<kAligned, GemmLoader<T, kM, kK, kThreads, kAlongA>,
                                     GemmAnyLoader<T, kM, kK, kThreads, kAlongA>>;
  using LoaderB = std::conditional_t<kAligned, GemmLoader<T, kN, kK, kThreads, kAlongB>,
                                     GemmAnyLoader<T, kN, kK, kThreads, kAlongB>>;
  LoaderA a(p, p.a, t, t.m, p.m);
  LoaderB b(p, p.b, t, t.n, p.n);
  const int64_t depth = max(int64_t{0}, t.end - t.begin);
  const int whole = static_cast<int>(depth / kK), rest = static_cast<int>(depth % kK), steps = whole + (rest > 0);
  const uint32_t tile_a = shared_address(gemm_shared), tile_b = tile_a + kTileA;
  // Every step makes a group of copies, though there be nothing left to copy.
  const auto copy = [&](int step) {
    const uint32_t stage = static_cast<unsigned>(step) % kStages * kStage;
    if (step < whole) {
      a.next(tile_a + stage);
      b.next(tile_b + stage);
    } else if (step < steps) {
      a.last(tile_a + stage, rest);
      b.last(tile_b + stage, rest);
    }
    cp_async_commit();
  };

  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int warp_m = warp / (kN / Shape::kWarpN) * Shape::kWarpM, warp_n = warp % (kN / Shape::kWarpN) * Shape::kWarpN;
  const FragmentReader<T, kAlongA, LoaderA::kColumns, kAlongA, kRowBlocks, kK / 16> reader_a(tile_a, warp_m);
  const FragmentReader<T, kAlongB, LoaderB::kColumns, !kAlongB, kColumnBlocks / 2, kK / 16> reader_b(tile_b, warp_n);
  const Summed summed = gemm_summed(p, t);
  GemmMmaSum<T, (kM > kN ? kM : kN), kK, kThreads> operand_sum;
  Four sums[kRowBlocks][kColumnBlocks] = {};

#pragma unroll 1
  for (int step = 0; step < kStages - 1; step++) copy(step);
#pragma unroll 1
  for (int step = 0; step < steps; step++) {
    cp_async_wait<kStages - 2>();
    __syncthreads();
    // Into the stage that was read in the last step, by all, as the barrier has seen.
    copy(step + kStages - 1);
    const uint32_t stage = static_cast<unsigned>(step) % kStages * kStage;
    unrolled<kK / 16>([&](auto k) {
      uint32_t fa[kRowBlocks][4], fb[kColumnBlocks][2];
      unrolled<kRowBlocks>([&](auto i) { reader_a.template load<i, k>(fa[i], stage); });
      unrolled<kColumnBlocks / 2>([&](auto j) {
        uint32_t r[4];
        reader_b.template load<j, k>(r, stage);
        fb[2 * j][0] = r[0], fb[2 * j][1] = r[1], fb[2 * j + 1][0] = r[2], fb[2 * j + 1][1] = r[3];
      });
#pragma unroll
      for (int i = 0; i < kRowBlocks; i++)
#pragma unroll
        for (int j = 0; j < kColumnBlocks; j++) mma_16x8x16<T>(sums[i][j].at, fa[i], fb[j]);
    });
    if (summed == Summed::none) continue;
    if (summed == Summed::a)
      operand_sum.template add<kM, kAlongA>(tile_a, stage);
    else
      operand_sum.template add<kN, kAlongB>(tile_b, stage);
  }
  if (summed == Summed::a) operand_sum.template put<kM>(p, t, t.m, p.m);
  if (summed == Summed::b) operand_sum.template put<kN>(p, t, t.n, p.n);

  const auto row_of = [&](int block) { return warp_m + block * 16 + lane / 4; };
  if (!gemm_join_parts<kThreads>(p, t, gemm_left(p.m, t.m), sums, row_of)) return;
  if (summed == Summed::a) gemm_join_sums<T, kM, kThreads>(p, t.m, p.m);
  if (summed == Summed::b) gemm_join_sums<T, kN, kThreads>(p, t.n, p.n);

  // The stages are done with; their memory takes the sums.
  cp_async_wait<0>();
  __syncthreads();
  float* const tile = reinterpret_cast<float*>(gemm_shared);
  constexpr int kPermuted = kColumnBlocks < 4 ? kColumnBlocks : 4;
  int columns[kPermuted];
#pragma unroll
  for (int j = 0; j < kPermuted; j++) columns[j] = staged<kN>(row_of(0), warp_n + j * 8 + lane % 4 * 2);
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
  gemm_finish<T, kM, kN, kThreads>(p, t, tile);
}

}  // namespace heed::cuda

#endif
