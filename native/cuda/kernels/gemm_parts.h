// A product whose K is cut into parts. Either each part is summed by a block of its own, and the last block of a tile
// to arrive (last_block.h) adds up the parts in order, in its tile in shared memory, and continues with the epilogue.
// Or one block sums them in turn and adds each to the sum of those before, in `out`. The order is the same, so the bits
// are too.
#pragma once
#include "cuda/kernels/gemm.h"
#include "cuda/kernels/last_block.h"

#if HEED_DEVICE_CODE

namespace heed::cuda {

using Four = Vector<float, 4>;

// Calls part(tile) with each part of K that the block sums.
template <class Shape, class Part>
__device__ __forceinline__ void gemm_turns(const GemmParams& p, const Part& part) {
#pragma unroll 1
  for (int turn = 0; turn < p.turns; turn++) {
    const GemmTile t = GemmTile::of_block<Shape::kM, Shape::kN>(p, turn);
    if (t.matrix >= p.batch) return;
    if (turn > 0) __syncthreads();  // the last part's sums are no longer read
    part(t);
  }
}

// Returns the place of an element's sum in the shared tile. 32-byte parts of four rows at a time are permuted, so that
// stores of mma fragments, 32 bytes of each of four rows, go to all banks.
template <int kColumns>
__device__ __forceinline__ int staged(int row, int column) {
  static_assert(kColumns % 32 == 0, "four rows permute the parts of 128 bytes");
  return row * kColumns + (column ^ (row % 4 * 8));
}

// `tile` holds the block's sums, staged. Returns false if another block will finish the tile. Otherwise `tile` then
// holds the sums over all of K.
template <int kRows, int kColumns, int kThreads>
__device__ __forceinline__ bool gemm_join_parts(const GemmParams& p, const GemmTile& t, float* tile) {
  constexpr int kTile = kRows * kColumns, kAcross = kColumns / 4;
  const int64_t tiles = p.batch * p.tiles_m * p.tiles_n;
  float* const part = p.partial + t.index * kTile;
  const int fours = min(gemm_left(p.m, t.m), kRows) * kAcross;
  const auto place = [](int four) { return staged<kColumns>(four / kAcross, four % kAcross * 4); };
  float* const mine = part + t.split * tiles * kTile;
  for (int i = threadIdx.x; i < fours; i += kThreads) Four::load(tile + place(i)).store_global(mine + i * 4);
  if (!last_to_arrive(p.arrivals + t.index, p.splits)) return false;

  for (int i = threadIdx.x; i < fours; i += kThreads) {
    Four sum = load_part<4>(part + i * 4);
#pragma unroll 4
    for (int s = 1; s < p.splits; s++) {
      const Four more = load_part<4>(part + s * tiles * kTile + i * 4);
#pragma unroll
      for (int e = 0; e < 4; e++) sum.at[e] += more.at[e];
    }
    sum.store(tile + place(i));
  }
  __syncthreads();
  return true;
}

}  // namespace heed::cuda

#endif
