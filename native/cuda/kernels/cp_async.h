// Asynchronous copies from global to shared memory (PTX ISA, "cp.async"): issue, close the group, wait, barrier, read.
//
//   cp_async<16>(&tile[i], source, valid ? 16 : 0);   // bytes beyond the third argument are written as zeros
//   cp_async_commit();                                // what was issued since the last commit is one group
//   cp_async_wait<1>();                               // all but the latest 1 of this thread's groups have landed
//   __syncthreads();                                  // and so have those of the other threads
#pragma once
#include "cuda/kernels/kernel.h"

#if HEED_DEVICE_CODE

namespace heed::cuda {

// Converts a pointer to an address for instructions that take one in shared memory.
__device__ __forceinline__ uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// Copies `bytes` (0 to kBytes) and fills the rest of kBytes (4, 8 or 16) with zeros. Both addresses must be multiples
// of kBytes, even with 0 bytes, for which `global` is not read. 16-byte copies bypass L1, because tiles are read only
// once.
template <int kBytes>
__device__ __forceinline__ void cp_async(void* shared, const void* global, int bytes = kBytes) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16, "cp.async copies 4, 8 or 16 bytes");
  if constexpr (kBytes == 16)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global), "r"(bytes)
                 : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared_address(shared)), "l"(global),
                 "n"(kBytes), "r"(bytes)
                 : "memory");
}

// The same for an address that was computed before, plus `kOffset` bytes, which costs no addition.
template <int kBytes, int kOffset = 0>
__device__ __forceinline__ void cp_async(uint32_t shared, const void* global) {
  static_assert(kBytes == 16, "whole parts");
  asm volatile("cp.async.cg.shared.global [%0 + %1], [%2], 16;" ::"r"(shared), "n"(kOffset), "l"(global) : "memory");
}
template <int kBytes, int kOffset = 0>
__device__ __forceinline__ void cp_async(uint32_t shared, const void* global, int bytes) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16, "cp.async copies 4, 8 or 16 bytes");
  if constexpr (kBytes == 16)
    asm volatile("cp.async.cg.shared.global [%0 + %1], [%2], 16, %3;" ::"r"(shared), "n"(kOffset), "l"(global),
                 "r"(bytes)
                 : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0 + %1], [%2], %3, %4;" ::"r"(shared), "n"(kOffset), "l"(global),
                 "n"(kBytes), "r"(bytes)
                 : "memory");
}

__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

template <int kPending>
__device__ __forceinline__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

}  // namespace heed::cuda

#endif
