// A row of elements in slots, which are 16-byte vectors. They are cut from the last 16-byte boundary at or before the
// beginning of the row, wherever it begins. So all slots but the first and the last can be accessed at once, and those
// two element by element. A tensor whose rows lie differently from those that the slots were cut for is accessed
// element by element. Lanes take slots in turn: lane l of kLanes has slots l, l + kLanes, ...
#pragma once
#include "cuda/kernels/kernel.h"

#if HEED_DEVICE_CODE

namespace heed::cuda {

template <class T>
constexpr int kLength = 16 / sizeof(T);
template <class T>
using Slot = Vector<T, kLength<T>>;

__device__ __forceinline__ unsigned misalignment(const void* address) {
  return static_cast<unsigned>(reinterpret_cast<uintptr_t>(address)) % 16;
}

// Stores 16 bytes to global memory. It is written out because the compiler splits stores that it finds on two branches.
template <class V>
__device__ __forceinline__ void store_whole(void* address, const V& value) {
  static_assert(sizeof(V) == 16);
  uint4 bits;
  memcpy(&bits, &value, sizeof bits);
  asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(address)), "r"(bits.x),
               "r"(bits.y), "r"(bits.z), "r"(bits.w)
               : "memory");
}

// Index is int if rows are known to be short.
template <class T, class Index = int>
struct Slots {
  Index n;
  int phase;  // elements of the first slot that lie before the row

  __device__ __forceinline__ Slots(const T* row, int64_t n)
      : n(static_cast<Index>(n)), phase(static_cast<int>(misalignment(row) / sizeof(T))) {}

  __device__ __forceinline__ Index size() const { return (n + phase + kLength<T> - 1) / kLength<T>; }
  // Returns the position in the row of a slot's first element, which may be outside the row.
  __device__ __forceinline__ Index begin(Index slot) const { return slot * kLength<T> - phase; }
  __device__ __forceinline__ bool holds(Index i) const { return i >= 0 && i < n; }
  __device__ __forceinline__ bool whole(const T* row, Index i) const {
    return i >= 0 && i + kLength<T> <= n && misalignment(row + i) == 0;
  }

  // Elements outside the row are `other`.
  __device__ __forceinline__ Slot<T> load(const T* row, Index slot, T other) const {
    const Index i = begin(slot);
    if (whole(row, i)) return Slot<T>::load(row + i);
    Slot<T> v;
#pragma unroll
    for (int e = 0; e < kLength<T>; e++) v.at[e] = holds(i + e) ? row[i + e] : other;
    return v;
  }
  __device__ __forceinline__ void store(T* row, Index slot, const Slot<T>& v) const {
    const Index i = begin(slot);
    if (whole(row, i)) return store_whole(row + i, v);
#pragma unroll
    for (int e = 0; e < kLength<T>; e++)
      if (holds(i + e)) row[i + e] = v.at[e];
  }
};

}  // namespace heed::cuda

#endif
