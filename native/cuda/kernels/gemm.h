// Definitions that the parts of the matrix product share: its parameters, which the host function in gemm.cu fills in,
// and the part of the product that a block computes.
#pragma once
#include "core/params.h"
#include "cuda/kernels/kernel.h"

namespace heed::cuda {

constexpr int kGemmBatchRank = kMaxRank - 2;

// a as M × K or b as N × K: `outer` and `depth` are the strides of an element, in elements. `width` is the largest
// number of bytes that can be copied at once along the operand's contiguous dimension.
struct GemmOperand {
  const void* data;
  int64_t outer, depth;
  int64_t batch[kGemmBatchRank];
  int width;
  bool along_depth;  // true if the contiguous dimension is K
};

// A matrix of out's shape with contiguous rows that are `row` elements apart. It has the product's dtype or f32.
struct GemmMatrix {
  void* data;
  int64_t row;
  int64_t batch[kGemmBatchRank];
  bool f32;
};

// Sums over K of one operand, a or b, in f32 or the product's dtype. Null if no sums are requested.
struct GemmSum {
  void* data;
  bool f32, accumulate, of_a;
};

struct GemmParams {
  int64_t m, n, k;
  int64_t batch;
  int batch_rank;
  int64_t batch_shape[kGemmBatchRank];
  GemmOperand a, b;
  GemmMatrix out, residual, preact, dact;  // data is null if an optional one is absent
  const void* bias;
  bool bias_f32;
  bool plain;    // the epilogue is only a store
  bool vectors;  // four elements of a row of each of these can be accessed at once, and N is a multiple of four
  bool accumulate;
  Activation activation;
  GemmSum sum;
  // K is cut into `splits` parts of `split_depth`. A block takes `turns` of them one after the other, which are all or
  // one. With all, the sum so far is in `out`. With one, the sums of the parts go to partial[split][tile] and
  // partial_sum[split][row or column], and `arrivals` counts the parts of each tile.
  int splits, turns;
  int64_t split_depth;
  float* partial;
  float* partial_sum;
  unsigned* arrivals;
  unsigned tiles_m, tiles_n;
};

#if HEED_DEVICE_CODE

// Distances in elements from the beginning of batched operands to one of their matrices.
template <int N>
struct BatchOffsets {
  int64_t at[N] = {};

  __device__ __forceinline__ BatchOffsets(const GemmParams& p, int64_t matrix, const int64_t* const (&strides)[N]) {
#pragma unroll 1
    for (int d = p.batch_rank - 1; d >= 0; d--) {
      const int64_t i = d ? matrix % p.batch_shape[d] : matrix;
#pragma unroll
      for (int j = 0; j < N; j++) at[j] += i * strides[j][d];
      if (d) matrix /= p.batch_shape[d];
    }
  }
};

// The tile of a block. Blocks that run at the same time share rows and columns of a and b in the L2 cache: they go down
// kGroup tiles of a column before they continue with the next column.
struct GemmTile {
  int64_t matrix;  // index in the batch
  int64_t m, n;    // the first row and column
  int64_t index;   // index among the tiles of all matrices
  int split;
  int64_t begin, end;  // of K

  template <int kRows, int kColumns>
  __device__ __forceinline__ static GemmTile of_block(const GemmParams& p, int turn = 0) {
    constexpr unsigned kGroup = 8;
    GemmTile t;
    t.matrix = block_y();
    const unsigned tiles = p.tiles_m * p.tiles_n;
    const unsigned tile = blockIdx.x % tiles;
    t.index = t.matrix * tiles + tile;
    t.split = static_cast<int>(blockIdx.x / tiles) + turn;
    const unsigned group = tile / (kGroup * p.tiles_n), within = tile % (kGroup * p.tiles_n);
    const unsigned height = min(kGroup, p.tiles_m - group * kGroup);
    t.m = static_cast<int64_t>(group * kGroup + within % height) * kRows;
    t.n = static_cast<int64_t>(within / height) * kColumns;
    t.begin = t.split * p.split_depth;
    t.end = min(p.k, t.begin + p.split_depth);
    return t;
  }
};

// Returns the rest of `extent` from `begin` on, limited to an int: loops within a tile count in 32 bits.
__device__ __forceinline__ int gemm_left(int64_t extent, int64_t begin) {
  return static_cast<int>(max(int64_t{0}, min(extent - begin, int64_t{1} << 30)));
}

// Returns the first element of an operand's tile: at row or column `first`, where the block's part of K begins.
template <class T>
__device__ __forceinline__ const T* gemm_tile_source(const GemmParams& p, const GemmOperand& x, const GemmTile& t,
                                                     int64_t first) {
  return static_cast<const T*>(x.data) + BatchOffsets<1>(p, t.matrix, {x.batch}).at[0] + first * x.outer +
         t.begin * x.depth;
}

extern __shared__ __align__(128) unsigned char gemm_shared[];

#endif

}  // namespace heed::cuda
