// Sums over K of one operand of a product, from its tiles in shared memory: Σ_k b[k, n], or for a, Σ_k a[m, k]. In dW =
// xᵀ · dy they are the gradient of a bias, for which dy then need not be read again.
//
// The blocks of the first row of tiles sum b, and those of the first column of tiles sum a. If K is cut, each block
// writes its part to the workspace, and the block that finishes the tile adds the parts in order.
#pragma once
#include "cuda/kernels/gemm.h"
#include "cuda/kernels/last_block.h"

#if HEED_DEVICE_CODE

namespace heed::cuda {

enum class Summed { none, a, b };

__device__ __forceinline__ Summed gemm_summed(const GemmParams& p, const GemmTile& t) {
  if (!p.sum.data) return Summed::none;
  return p.sum.of_a ? (t.n == 0 ? Summed::a : Summed::none) : (t.m == 0 ? Summed::b : Summed::none);
}

template <class T>
__device__ __forceinline__ void gemm_store_sum(const GemmSum& to, int64_t at, float sum) {
  if (std::is_same_v<T, float> || to.f32) {
    float* const out = static_cast<float*>(to.data) + at;
    *out = to.accumulate ? *out + sum : sum;
  } else {
    T* const out = static_cast<T*>(to.data) + at;
    *out = from_float<T>(to.accumulate ? to_float(*out) + sum : sum);
  }
}

// Writes the sum of the block's part of K for element `at` of `size`. It must be called before the block joins the
// others.
template <class T>
__device__ __forceinline__ void gemm_put_sum(const GemmParams& p, const GemmTile& t, int64_t at, int64_t size,
                                             float sum) {
  if (p.splits == 1)
    gemm_store_sum<T>(p.sum, at, sum);
  else
    p.partial_sum[t.split * size + at] = sum;
}

// Computes the sums of kOuter elements from `first` on. The block that finishes the tile calls it.
template <class T, int kOuter, int kThreads>
__device__ __forceinline__ void gemm_join_sums(const GemmParams& p, int64_t first, int64_t size) {
  static_assert(kOuter <= kThreads, "a thread has at most one element");
  const int64_t at = first + threadIdx.x;
  if (p.splits == 1 || threadIdx.x >= kOuter || at >= size) return;
  float sum = 0;
  for (int s = 0; s < p.splits; s++) sum += load_part<1>(p.partial_sum + s * size + at).at[0];
  gemm_store_sum<T>(p.sum, at, sum);
}

}  // namespace heed::cuda

#endif
