// Definitions that the kernels of attention_backward share. attention_backward_queries gives each block some rows and
// goes over all their keys, for dq and delta = rowsum(dout ∘ out). attention_backward_keys runs after it, gives each
// block some keys and goes over all rows that see them, for dk and dv. Both recompute P = 2^(scores - lse) tile by tile
// (Dao 2023, algorithm 2). That takes seven products instead of five, but every sum is computed by one block in one
// order, without atomics.
#pragma once
#include "cuda/kernels/attention.h"

namespace heed::cuda {

constexpr int kBackwardBlock = 64;  // rows or keys of a block on tensor cores: 16 per warp

struct AttentionBackwardParams {
  AttentionParams a;
  HeadsView dq, dk, dv, dout, out;
  const float* lse;  // [B, H, Tq]
  float* delta;      // [B, H, Tq]
  int64_t blocks;    // blocks of rows or keys in a group
};

#if HEED_DEVICE_CODE

struct BackwardItem {
  int64_t b, block;
  int g;

  __device__ __forceinline__ explicit BackwardItem(const AttentionBackwardParams& p) {
    const int64_t group = blockIdx.x / p.blocks;
    block = blockIdx.x % p.blocks;
    g = static_cast<int>(group % p.a.Hkv);
    b = group / p.a.Hkv;
  }
};

// The queries that see any of the keys [first_key, end_key): [first, end) according to their positions. With key_ranges
// not all of these queries see the keys.
template <int kThreads>
struct QueriesOfKeys {
  const VisibleKeys& visible;
  int first_key, end_key;
  int64_t first, end;

  __device__ __forceinline__ QueriesOfKeys(const VisibleKeys& visible, int first_key, int end_key)
      : visible(visible),
        first_key(first_key),
        end_key(end_key),
        first(visible.first_query(first_key)),
        end(visible.end_query(end_key - 1)) {}

  // Returns the first row of a group, beginning at `row`, that sees one of the keys, or end · G or more if no row does.
  // All threads of the block must call it.
  __device__ __forceinline__ int64_t next_row(int64_t row, int G) const {
    row = max(row, first * G);
    if (!visible.ranges) return row;
    __shared__ int nearest;
    for (int64_t query = row / G; query < end; query += kThreads) {
      const int64_t mine = query + threadIdx.x;
      if (threadIdx.x == 0) nearest = kThreads;
      __syncthreads();
      if (mine < end) {
        const KeyInterval sees = visible.of(mine);
        if (max(sees.first, first_key) < min(sees.end, end_key)) atomicMin(&nearest, static_cast<int>(threadIdx.x));
      }
      __syncthreads();
      const int found = nearest;
      __syncthreads();  // before it is set again
      if (found < kThreads) return max(row, (query + found) * G);
    }
    return end * G;
  }
};

// Turns a product q · k that is not plain into a score in powers of two, without the slopes. dp, the gradient of P, is
// multiplied by the derivative of the softcap, so that (dp - delta) is the product of both.
__device__ __forceinline__ float finish_score(const AttentionParams& p, float score, float& dp, float delta) {
  if (p.cap_log2 == 0) return score * p.scale_log2;
  const float x = tanh_fast(score * p.cap_scale);
  dp = fmaf(dp - delta, 1 - x * x, delta);
  return p.cap_log2 * x;
}

#else

// A kernel and the shape of its blocks: rows or keys, and columns of the result.
struct BackwardKernel {
  Kernel<AttentionBackwardParams>* kernel;
  int block, columns, tile;  // `tile`: the keys or rows of a tile that the block goes over
  size_t shared;
};

// For bf16 and f16 with D <= most_fast_head. `masked` means that there is a block mask.
BackwardKernel attention_backward_queries_mma_kernel(DType dtype, int D, bool masked);
BackwardKernel attention_backward_keys_mma_kernel(DType dtype, int D, bool masked);
// For f32 and any D.
BackwardKernel attention_backward_queries_fma_kernel(DType dtype, int D, bool masked);
BackwardKernel attention_backward_keys_fma_kernel(DType dtype, int D, bool masked);

#endif

}  // namespace heed::cuda
