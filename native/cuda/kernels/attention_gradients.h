// What the kernels of attention_backward share. Of each item in turn: attention_backward_queries takes a block of rows
// over all their keys, for dq and delta = rowsum(dout ∘ out); attention_backward_keys, after it, takes a block of keys
// over all rows that see them, for dk and dv. Both recompute P = 2^(scores - lse) tile by tile (Dao 2023, algorithm 2):
// seven products instead of five, but every sum has one owner and one order, without atomics.
#pragma once
#include "cuda/kernels/attention.h"

namespace heed::cuda {

constexpr int kBackwardBlock = 64;  // rows or keys of a block on tensor cores: 16 a warp

struct AttentionBackwardParams {
  AttentionParams a;
  HeadsView dq, dk, dv, dout, out;
  const float* lse;  // [B, H, Tq]
  float* delta;      // [B, H, Tq]
  int64_t blocks;    // of rows or keys of a group
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

// The queries that see one of keys [first_key, end_key): [first, end) by their positions, and with key_ranges not all
// of those.
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

  // From `row` on, the first row of a group that sees one of the keys; end · G or more where none does. All threads of
  // the block call it.
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

// What becomes of a product q · k that is not plain, but for slopes, in powers of two. dp, the gradient of P, takes the
// derivative of the softcap such that (dp - delta) is the product of both.
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
  int block, columns, tile;  // `tile`: of the keys or rows that a block goes over
  size_t shared;
};

// bf16 and f16, D <= most_fast_head; masked: by blocks.
BackwardKernel attention_backward_queries_mma_kernel(DType dtype, int D, bool masked);
BackwardKernel attention_backward_keys_mma_kernel(DType dtype, int D, bool masked);
// f32, and any D.
BackwardKernel attention_backward_queries_fma_kernel(DType dtype, int D, bool masked);
BackwardKernel attention_backward_keys_fma_kernel(DType dtype, int D, bool masked);

#endif

}  // namespace heed::cuda
