// A product whose K is cut into parts, each summed by a block of its own: the last block of a tile to arrive
// (last_block.h) adds the parts up in their order and goes on to the epilogue.
//
// A thread reads what a thread of its number wrote, so that the parts lie as the sums do in registers: fours, those of
// all threads side by side. Rows beyond the matrix are neither written nor read.
#pragma once
#include "cuda/kernels/gemm.h"
#include "cuda/kernels/last_block.h"

#if HEED_DEVICE_CODE

namespace heed::cuda {

using Four = Vector<float, 4>;

// False if another block will finish the tile; else `sums` are those over all of K. `row_of(r)` is the row within the
// tile of the thread's fours sums[r].
template <int kThreads, int kRows, int kFours, class RowOf>
__device__ __forceinline__ bool gemm_join_parts(const GemmParams& p, const GemmTile& t, int rows,
                                                Four (&sums)[kRows][kFours], const RowOf& row_of) {
  if (p.splits == 1) return true;
  constexpr int kTile = kRows * kFours * kThreads * 4;
  const int64_t tiles = p.batch * p.tiles_m * p.tiles_n;
  float* part = p.partial + t.index * kTile + threadIdx.x * 4;
  const auto for_present = [&](auto&& body) {
#pragma unroll
    for (int r = 0; r < kRows; r++)
      if (row_of(r) < rows) {
#pragma unroll
        for (int i = 0; i < kFours; i++) body(sums[r][i], (r * kFours + i) * kThreads * 4);
      }
  };
  float* const mine = part + t.split * tiles * kTile;
  for_present([&](Four& sum, int at) { sum.store_global(mine + at); });
  if (!last_to_arrive(p.arrivals + t.index, p.splits)) return false;

  for_present([&](Four& sum, int at) { sum = load_part<4>(part + at); });
#pragma unroll 1
  for (int s = 1; s < p.splits; s++) {
    part += tiles * kTile;
    for_present([&](Four& sum, int at) {
      const Four more = load_part<4>(part + at);
#pragma unroll
      for (int e = 0; e < 4; e++) sum.at[e] += more.at[e];
    });
  }
  return true;
}

}  // namespace heed::cuda

#endif
