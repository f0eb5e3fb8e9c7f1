// Attention's forward problem cut into items, and how results of items come together. An item is a block of rows of a
// group over one split of the keys; splits exist where blocks of rows are too few to fill the device (Flash-Decoding).
// A split leaves its rows' sums o, not divided by l, with their m and l, and the combining kernel of attention.cu gives
//   out = Σ_s 2^(m_s - m) o_s / Σ_s 2^(m_s - m) l_s,   m = max_s m_s
// (Milakov & Gimelshein 2018, eq. 4). m counts powers of two.
#pragma once
#include "cuda/kernels/attention.h"

namespace heed::cuda {

struct AttentionForwardParams {
  AttentionParams a;
  HeadsView out;
  float* lse;  // [B, H, Tq] or null
  int64_t blocks;
  int splits, split_keys;
  float* partial_out;    // [groups, splits, rows, D]
  float* partial_stats;  // [groups, splits, rows, 2]: m, l
};

#if HEED_DEVICE_CODE

struct ForwardItem {
  int64_t b, block;
  int g, split;

  // The last rows first: causal ones have the most keys. Neighbours share their keys.
  __device__ __forceinline__ explicit ForwardItem(const AttentionForwardParams& p) {
    int64_t item = blockIdx.x;
    block = p.blocks - 1 - item % p.blocks;
    item /= p.blocks;
    split = static_cast<int>(item % p.splits);
    item /= p.splits;
    g = static_cast<int>(item % p.a.Hkv);
    b = item / p.a.Hkv;
  }
  __device__ __forceinline__ int64_t partial(const AttentionForwardParams& p, int64_t row) const {
    return ((b * p.a.Hkv + g) * p.splits + split) * p.a.rows + row;
  }
};

__device__ __forceinline__ float log_sum(float m, float l) { return l > 0 ? (m + log2f(l)) * kLn2 : -kInfinity; }
// What is left to multiply a row's sum with. A row that saw no key gives 0.
__device__ __forceinline__ float row_factor(const AttentionParams& p, float l) { return l > 0 ? p.keep_scale / l : 0; }

#else

// A kernel and the shape of its blocks.
struct ForwardKernel {
  Kernel<AttentionForwardParams>* kernel;
  int rows, columns;  // of the output, of a block
  size_t shared;
};

ForwardKernel attention_decode_kernel(DType dtype, int D, int64_t rows);
ForwardKernel attention_mma_kernel(DType dtype, int D);  // bf16 and f16
ForwardKernel attention_fma_kernel(DType dtype, int D);  // f32, and any D

#endif

}  // namespace heed::cuda
