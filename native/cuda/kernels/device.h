// Device code that kernels share: float types, vectors of up to 16 bytes, sums and maxima over a warp and a block, and
// reports of faults in the data.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <type_traits>
#include <utility>

#include "cuda/fault.h"

namespace heed::cuda {

using bf16 = __nv_bfloat16;
using f16 = __half;

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(bf16 x) { return __bfloat162float(x); }
__device__ __forceinline__ float to_float(f16 x) { return __half2float(x); }

template <class T>
__device__ __forceinline__ T from_float(float x);
template <>
__device__ __forceinline__ float from_float<float>(float x) {
  return x;
}
template <>
__device__ __forceinline__ bf16 from_float<bf16>(float x) {
  return __float2bfloat16_rn(x);
}
template <>
__device__ __forceinline__ f16 from_float<f16>(float x) {
  return __float2half_rn(x);
}

// N elements that are read and written with one instruction of up to 16 bytes. Addresses must be aligned to its size.
template <class T, int N>
struct alignas(sizeof(T) * N) Vector {
  T at[N];
  __device__ __forceinline__ static Vector load(const T* address) { return *reinterpret_cast<const Vector*>(address); }
  __device__ __forceinline__ void store(T* address) const { *reinterpret_cast<Vector*>(address) = *this; }

  // Stores to global memory with exactly one instruction. If the compiler knows some bits of the address, it splits the
  // store of a struct, and lanes would then write to sectors a few bytes at a time.
  __device__ __forceinline__ void store_global(T* address) const {
    const size_t to = __cvta_generic_to_global(address);
    const unsigned* const words = reinterpret_cast<const unsigned*>(at);
    if constexpr (sizeof(Vector) == 16)
      asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(to), "r"(words[0]), "r"(words[1]), "r"(words[2]),
                   "r"(words[3])
                   : "memory");
    else if constexpr (sizeof(Vector) == 8)
      asm volatile("st.global.v2.b32 [%0], {%1, %2};" ::"l"(to), "r"(words[0]), "r"(words[1]) : "memory");
    else if constexpr (sizeof(Vector) == 4 && N > 1)
      *reinterpret_cast<unsigned*>(address) = *words;
    else
      store(address);
  }
};

template <int N>
struct Constant {
  __device__ constexpr operator int() const { return N; }
};

// Calls body(i) for i from 0 to N - 1, where i is a constant that can serve, for instance, as an offset in an
// instruction.
template <class Body, int... I>
__device__ __forceinline__ void unrolled(std::integer_sequence<int, I...>, const Body& body) {
  (body(Constant<I>{}), ...);
}
template <int N, class Body>
__device__ __forceinline__ void unrolled(const Body& body) {
  unrolled(std::make_integer_sequence<int, N>{}, body);
}

// Keeps a value in its register through a loop; otherwise the compiler would compute it again in every step.
__device__ __forceinline__ void keep(int& x) { asm volatile("" : "+r"(x)); }
__device__ __forceinline__ void keep(unsigned& x) { asm volatile("" : "+r"(x)); }
__device__ __forceinline__ void keep(int64_t& x) { asm volatile("" : "+l"(x)); }
// Computes a value here; otherwise the compiler would postpone it and keep the values that it is computed from.
__device__ __forceinline__ void compute_now(float& x) { asm volatile("" : "+f"(x)); }

constexpr unsigned kFullWarp = 0xffffffffu;

__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) x += __shfl_xor_sync(kFullWarp, x, offset);
  return x;
}
__device__ __forceinline__ float warp_max(float x) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) x = fmaxf(x, __shfl_xor_sync(kFullWarp, x, offset));
  return x;
}

// Returns the maximum over a block of kThreads to every thread. It may be called again at once, because it ends in a
// barrier.
template <int kThreads>
__device__ __forceinline__ float block_max(float x) {
  if constexpr (kThreads == 32) return warp_max(x);
  __shared__ float parts[kThreads / 32];
  x = warp_max(x);
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
  __syncthreads();
  float most = parts[0];
#pragma unroll
  for (int w = 1; w < kThreads / 32; w++) most = fmaxf(most, parts[w]);
  __syncthreads();
  return most;
}

// `length` is given if the message names a row and the place in it. All findings of one operation have the same kind,
// limit and length, and differ in place and value.
__device__ inline void report_fault(const FaultSink& sink, FaultKind kind, int64_t value, int64_t limit,
                                    int64_t position, int64_t length = 0) {
  using Word = unsigned long long;
  FaultReport& report = *sink.report;
  const uint64_t at = static_cast<uint64_t>(min(position, Finding::kLast)) << Finding::kValueBits;
  const Word finding = ~Word{at | (static_cast<uint64_t>(value) & Finding::kValues)};
  if (atomicMax(reinterpret_cast<Word*>(&report.found), finding) != 0) return;
  report.kind = kind;
  report.limit = limit;
  report.length = length;
  report.op = sink.op;
}

}  // namespace heed::cuda
