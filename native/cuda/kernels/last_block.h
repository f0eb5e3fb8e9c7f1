// Blocks that share a result: each writes its part, and the last one to arrive, whichever it is, combines the parts. It
// adds them, including its own, in a fixed order, so that the bits do not depend on which block is last.
//
//   store(part[block]);
//   if (!last_to_arrive(p.arrivals + i, blocks)) return;
//   for (int b = 0; b < blocks; b++) sum += load_part(part[b]);
//
// The counter is zero before and after the launch, so that the next launch in the stream, or the next replay of a
// graph, finds it at zero too. The host gets the counter from Stream::arrivals.
#pragma once
#include "cuda/kernels/kernel.h"

#if HEED_DEVICE_CODE

namespace heed::cuda {

// Must be called by all threads of each of `blocks` blocks. Returns true in the last block, which sees everything that
// the others wrote before.
__device__ __forceinline__ bool last_to_arrive(unsigned* counter, unsigned blocks) {
  __shared__ int last;  // a word, because the software device follows shared memory by a kernel's smallest access
  __threadfence();
  __syncthreads();
  // atomicInc wraps from blocks - 1 to 0.
  if (threadIdx.x == 0) last = atomicInc(counter, blocks - 1) == blocks - 1;
  __syncthreads();
  if (last) __threadfence();
  return last;
}

// Loads what another block wrote from the L2 cache, because the multiprocessor's own cache may be out of date.
template <int N>
__device__ __forceinline__ Vector<float, N> load_part(const float* address) {
  static_assert(N == 1 || N == 2 || N == 4, "one access");
  Vector<float, N> v;
  if constexpr (N == 4) {
    const float4 x = __ldcg(reinterpret_cast<const float4*>(address));
    v = {{x.x, x.y, x.z, x.w}};
  } else if constexpr (N == 2) {
    const float2 x = __ldcg(reinterpret_cast<const float2*>(address));
    v = {{x.x, x.y}};
  } else {
    v = {{__ldcg(address)}};
  }
  return v;
}

}  // namespace heed::cuda

#endif
