// Blocks that share a result: each writes its part, and the last one to arrive, whichever it is, puts the parts
// together. So that bits do not depend on who is last, it adds them in a fixed order, its own among them.
//
//   store(part[block]);
//   if (!last_to_arrive(p.arrivals + i, blocks)) return;
//   for (int b = 0; b < blocks; b++) sum += load_part(part[b]);
//
// The counter is zero before the launch and after it, so that the next launch in the stream, or the next replay of a
// graph, finds it as this one did. The host has it from Stream::arrivals.
#pragma once
#include "cuda/kernels/kernel.h"

#if HEED_DEVICE_CODE

namespace heed::cuda {

// Called by all threads of each of `blocks` blocks: true in the last of them, which sees what the others wrote before.
__device__ __forceinline__ bool last_to_arrive(unsigned* counter, unsigned blocks) {
  __shared__ bool last;
  __threadfence();
  __syncthreads();
  // atomicInc goes from blocks - 1 back to 0.
  if (threadIdx.x == 0) last = atomicInc(counter, blocks - 1) == blocks - 1;
  __syncthreads();
  if (last) __threadfence();
  return last;
}

// What another block wrote, from the L2 cache: the multiprocessor's own may be out of date.
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
