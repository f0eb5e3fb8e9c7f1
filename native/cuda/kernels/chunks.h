// One launch over all elements of a list of tensors. A block has a chunk of one tensor, which it finds by means of the
// first block of each tensor, in the kernel's parameters. Lists that are too long for the parameters take several
// launches.
#pragma once
#include "cuda/kernels/kernel.h"

namespace heed::cuda {

constexpr int kChunkThreads = 256;

// Holds as many tensors, with N pointers each, as fit into kernel parameters beside 128 bytes of other parameters.
template <int N>
struct TensorTable {
  static constexpr int kMost = (4096 - 128) / (8 * N + 14);
  int32_t count;
  uint32_t starts[kMost];  // first block of each tensor, rising: empty tensors are left out
  int64_t sizes[kMost];
  void* data[N][kMost];
  DType dtypes[kMost][2];  // dtypes of the first two pointers
};

#if HEED_DEVICE_CODE

// This block's chunk, which has up to `chunk` elements: elements [begin, begin + n) of the tensor.
struct Chunk {
  int tensor, n;
  int64_t begin;
};

template <int N>
__device__ __forceinline__ Chunk find_chunk(const TensorTable<N>& table, int chunk) {
  int low = 0, high = table.count;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (table.starts[middle] <= blockIdx.x ? low : high) = middle;
  }
  const int64_t begin = static_cast<int64_t>(blockIdx.x - table.starts[low]) * chunk;
  const int64_t left = table.sizes[low] - begin;
  return {low, static_cast<int>(left < chunk ? left : chunk), begin};
}

// Calls f(values) for each element of this block's chunk; `values` holds the element's f32 number in each of the N
// tensors. Numbers of the first W tensors are written back.
template <int W, int N, class F>
__device__ __forceinline__ void over_chunk(const TensorTable<N>& table, int length, const F& f) {
  const Chunk chunk = find_chunk(table, length);
  float* at[N];
  uintptr_t addresses = 0;
#pragma unroll
  for (int i = 0; i < N; i++) {
    at[i] = static_cast<float*>(table.data[i][chunk.tensor]) + chunk.begin;
    addresses |= reinterpret_cast<uintptr_t>(at[i]);
  }
  const int vectors = addresses % 16 == 0 ? chunk.n / 4 : 0;
  for (int i = threadIdx.x; i < vectors; i += kChunkThreads) {
    Vector<float, 4> four[N];
#pragma unroll
    for (int t = 0; t < N; t++) four[t] = Vector<float, 4>::load(at[t] + i * 4);
#pragma unroll
    for (int e = 0; e < 4; e++) {
      float values[N];
#pragma unroll
      for (int t = 0; t < N; t++) values[t] = four[t].at[e];
      f(values);
#pragma unroll
      for (int t = 0; t < W; t++) four[t].at[e] = values[t];
    }
#pragma unroll
    for (int t = 0; t < W; t++) four[t].store(at[t] + i * 4);
  }
  for (int i = vectors * 4 + threadIdx.x; i < chunk.n; i += kChunkThreads) {
    float values[N];
#pragma unroll
    for (int t = 0; t < N; t++) values[t] = at[t][i];
    f(values);
#pragma unroll
    for (int t = 0; t < W; t++) at[t][i] = values[t];
  }
}

// The factor by which gradients are clipped, as their global norm on the device says; NaN if the norm is not finite, so
// that the step is to be skipped.
__device__ __forceinline__ float clip_scale(const float* norm, float max_norm) {
  if (!norm) return 1;
  return isfinite(*norm) ? fminf(1.0f, max_norm / (*norm + 1e-6f)) : NAN;
}

#else

// Calls f(table, blocks) for each launch. Items with the same index in all lists belong together.
template <int N, class F>
void for_tables(const ViewList* const (&lists)[N], int64_t chunk, const F& f) {
  TensorTable<N> table{};
  int64_t blocks = 0;
  const auto launch = [&] {
    if (blocks > 0) f(table, blocks);
    table.count = 0;
    blocks = 0;
  };
  for (int64_t t = 0; t < lists[0]->size(); t++) {
    const int64_t size = (*lists[0])[t].numel(), needed = (size + chunk - 1) / chunk;
    if (size == 0) continue;
    if (table.count == TensorTable<N>::kMost || blocks + needed > INT32_MAX) launch();
    const int to = table.count++;
    table.starts[to] = static_cast<uint32_t>(blocks);
    table.sizes[to] = size;
    for (int i = 0; i < N; i++) table.data[i][to] = (*lists[i])[t].data;
    for (int i = 0; i < N && i < 2; i++) table.dtypes[to][i] = (*lists[i])[t].dtype;
    blocks += needed;
  }
  launch();
}

#endif

}  // namespace heed::cuda
