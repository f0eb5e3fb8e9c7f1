// Σ e^{x - max x} in one pass (Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018): each thread
// of a group adds the values that it reads, and then the group combines its sums.
#pragma once
#include "cuda/kernels/rows.h"

#if HEED_DEVICE_CODE

namespace heed::cuda {

struct OnlineSoftmax {
  float max = -INFINITY;
  float sum = 0;  // Σ e^{x - max}

  // Returns the value that is subtracted in exponentials. Before the first finite number there is no maximum to
  // subtract, and e^{-inf} is 0 without it.
  __device__ __forceinline__ float reference() const { return max == -INFINITY ? 0.0f : max; }

  template <int kCount>
  __device__ __forceinline__ void add(const float (&x)[kCount]) {
    float highest = max;
#pragma unroll
    for (int e = 0; e < kCount; e++) highest = fmaxf(highest, x[e]);
    const float before = max;
    max = highest;
    const float shift = reference();
    sum *= expf(before - shift);  // the factor is 1 if the maximum stays
#pragma unroll
    for (int e = 0; e < kCount; e++) sum += expf(x[e] - shift);
  }

  // Gives all lanes of the group the same result.
  template <int kLanes>
  __device__ __forceinline__ void combine() {
    const float highest = group_max<kLanes>(max);
    sum = group_sum<kLanes>(max == highest ? sum : sum * expf(max - highest));
    max = highest;
  }
};

}  // namespace heed::cuda

#endif
