// What the kernels of attention_backward share. Of each item in turn: attention_backward_queries takes a block of rows
// over all their keys, for dq and delta = rowsum(dout ∘ out); attention_backward_keys, after it, takes a block of keys
// over all rows that see them, for dk and dv. Both recompute P = 2^(scores - lse) tile by tile (Dao 2023, algorithm 2):
// seven products instead of five, but every sum has one owner and one order, without atomics.
#pragma once
#include "cuda/kernels/attention.h"

namespace heed::cuda {

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

#else

// A kernel and the shape of its blocks: rows or keys, and columns of the result.
struct BackwardKernel {
  Kernel<AttentionBackwardParams>* kernel;
  int block, columns;
  size_t shared;
};

BackwardKernel attention_backward_queries_mma_kernel(DType dtype, int D);  // bf16 and f16, D <= 256
BackwardKernel attention_backward_keys_mma_kernel(DType dtype, int D);
BackwardKernel attention_backward_queries_fma_kernel(DType dtype, int D);  // f32, and any D
BackwardKernel attention_backward_keys_fma_kernel(DType dtype, int D);

#endif

}  // namespace heed::cuda
