// Finds the largest elements of a row with one block: an order as whole numbers, sums, maxima and scans over the block,
// and the first elements in that order up to a count or a mass, without sorting the row.
//
// The order is the same everywhere: descending value, ascending index among equals (0 and -0 are equal), and NaN after
// every number. Results do not depend on the order of threads: lists are collected by a scan, and sums have a fixed
// shape.
#pragma once
#include "cuda/kernels/kernel.h"

namespace heed::cuda {

// An element as one number, unique in its row: the higher number comes first. 0 stands for no element.
using Key = unsigned long long;

#if HEED_DEVICE_CODE

__device__ __forceinline__ Key key_of(float x, uint32_t index) {
  uint32_t bits = __float_as_uint(x + 0.0f);  // -0 becomes 0
  bits ^= bits >> 31 ? 0xffffffffu : 0x80000000u;
  if (x != x) bits = 0;
  return static_cast<Key>(bits) << 32 | static_cast<uint32_t>(~index);
}
__device__ __forceinline__ uint32_t index_of(Key key) { return ~static_cast<uint32_t>(key); }
// Returns the value of a key that is not NaN's.
__device__ __forceinline__ float value_of(Key key) {
  const uint32_t bits = static_cast<uint32_t>(key >> 32);
  return __uint_as_float(bits ^ (bits >> 31 ? 0x80000000u : 0xffffffffu));
}
// The least key of numbers above -inf.
constexpr Key kAboveInfinity = Key{0x00800000} << 32;

struct Sum {
  template <class A>
  __device__ static A combine(A a, A b) {
    return a + b;
  }
};
struct Highest {
  template <class A>
  __device__ static A combine(A a, A b) {
    return a > b ? a : b;
  }
};

template <class Op, class A>
__device__ __forceinline__ A warp_combine(A x) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) x = Op::combine(x, __shfl_xor_sync(kFullWarp, x, offset));
  return x;
}

// Combines over a block and gives every thread the same bits; 0 is the identity of `Op`. May be called again at once.
template <int kThreads, class Op, class A>
__device__ __forceinline__ A block_combine(A x) {
  __shared__ A parts[kThreads / 32];
  const int lane = threadIdx.x % 32;
  x = warp_combine<Op>(x);
  if (lane == 0) parts[threadIdx.x / 32] = x;
  __syncthreads();
  x = warp_combine<Op>(lane < kThreads / 32 ? parts[lane] : A{});
  __syncthreads();
  return x;
}

template <class A>
__device__ __forceinline__ A warp_scan(A x) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int offset = 1; offset < 32; offset *= 2) {
    const A other = __shfl_up_sync(kFullWarp, x, offset);
    if (lane >= offset) x += other;
  }
  return x;
}

// Returns the sum of the values of this and all earlier threads of the block; `total` receives the sum of all. May be
// called again at once.
template <int kThreads, class A>
__device__ __forceinline__ A block_scan(A x, A& total) {
  __shared__ A parts[kThreads / 32];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  x = warp_scan(x);
  if (lane == 31) parts[warp] = x;
  __syncthreads();
  const A sums = warp_scan(lane < kThreads / 32 ? parts[lane] : A{});
  total = __shfl_sync(kFullWarp, sums, kThreads / 32 - 1);
  const A before = __shfl_sync(kFullWarp, sums, warp > 0 ? warp - 1 : 0);
  __syncthreads();
  return warp > 0 ? before + x : x;
}

// Calls f(value, index) for this thread's elements of a row, one aligned vector after the other.
template <class T, class F>
__device__ __forceinline__ void over_row(const T* row, uint32_t n, uint32_t thread, uint32_t threads, const F& f) {
  constexpr int V = 16 / sizeof(T);
  const int lead = static_cast<int>(reinterpret_cast<uintptr_t>(row) / sizeof(T) % V);
  const uint32_t vectors = (n + lead + V - 1) / V;
  for (uint32_t v = thread; v < vectors; v += threads) {
    const int64_t first = static_cast<int64_t>(v) * V - lead;
    Vector<T, V> x;
    if (first >= 0 && first + V <= n) {
      x = Vector<T, V>::load(row + first);
#pragma unroll
      for (int k = 0; k < V; k++) f(to_float(x.at[k]), static_cast<uint32_t>(first + k));
      continue;
    }
#pragma unroll 1
    for (int k = 0; k < V; k++)
      if (first + k >= 0 && first + k < n) f(to_float(row[first + k]), static_cast<uint32_t>(first + k));
  }
}

// Sorts n keys (n is a power of two), the highest first. It begins and ends with a barrier.
template <int kThreads>
__device__ __forceinline__ void sort_keys(Key* keys, uint32_t n) {
  __syncthreads();
  for (uint32_t size = 2; size <= n; size *= 2)
    for (uint32_t stride = size / 2; stride > 0; stride /= 2) {
      for (uint32_t i = threadIdx.x; i < n / 2; i += kThreads) {
        const uint32_t at = 2 * i - (i & (stride - 1));
        const Key a = keys[at], b = keys[at + stride];
        if ((a < b) == ((at & size) == 0)) {
          keys[at] = b;
          keys[at + stride] = a;
        }
      }
      __syncthreads();
    }
}

// Returns the k-th of the threads' highest keys, so that at least k elements are as high as it; 0 if k is too large for
// that.
template <int kThreads>
__device__ __forceinline__ Key floor_of_top(Key highest, uint32_t k, Key* keys) {
  if (k > kThreads) return 0;
  keys[threadIdx.x] = highest;
  sort_keys<kThreads>(keys, kThreads);
  const Key floor = keys[k - 1];
  __syncthreads();
  return floor;
}

// Writes to `list` what key(value, index) returns for the elements of a row, if it is not 0, in a fixed order. Returns
// how many keys these are. It ends with a barrier.
template <int kThreads, class T, class F>
__device__ __forceinline__ uint32_t collect_as(Key* list, const T* row, uint32_t n, const F& key) {
  uint32_t count = 0, total;
  const auto each = [&](const auto& f) {
    over_row(row, n, threadIdx.x, kThreads, [&](float x, uint32_t i) {
      if (const Key found = key(x, i)) f(found);
    });
  };
  each([&](Key) { count++; });
  uint32_t to = block_scan<kThreads>(count, total) - count;
  each([&](Key found) { list[to++] = found; });
  __syncthreads();
  return total;
}

// The same for the elements for which keep(value, key) holds, with their keys in the order of values.
template <int kThreads, class T, class F>
__device__ __forceinline__ uint32_t collect(Key* list, const T* row, uint32_t n, const F& keep) {
  return collect_as<kThreads>(list, row, n, [&](float x, uint32_t i) {
    const Key key = key_of(x, i);
    return keep(x, key) ? key : Key{0};
  });
}

// The last of the first keys in order whose weights together reach `target`, or the last of all if none do. Halves the
// range of keys it can be in, then narrows that to keys there are.
template <int kThreads, class F>
__device__ __forceinline__ Key last_of_prefix(const Key* list, uint32_t n, double target, const F& weight) {
  Key lowest = 0, highest = 0;
  for (uint32_t j = threadIdx.x; j < n; j += kThreads) {
    lowest = max(lowest, ~list[j]);
    highest = max(highest, list[j]);
  }
  Key low = ~block_combine<kThreads, Highest>(lowest), end = block_combine<kThreads, Highest>(highest) + 1;
  while (end - low > 1) {
    const Key middle = low + (end - low) / 2;
    double mass = 0;
    Key least = 0, most = 0;  // ~ the least key from the middle on; the highest key below it
    for (uint32_t j = threadIdx.x; j < n; j += kThreads) {
      const Key key = list[j];
      if (key < low || key >= end) continue;
      if (key >= middle) {
        mass += weight(key);
        least = max(least, ~key);
      } else {
        most = max(most, key);
      }
    }
    mass = block_combine<kThreads, Sum>(mass);
    if (mass >= target) {
      low = ~block_combine<kThreads, Highest>(least);
    } else {
      target -= mass;
      end = block_combine<kThreads, Highest>(most) + 1;
    }
  }
  return low;
}

#endif

}  // namespace heed::cuda
