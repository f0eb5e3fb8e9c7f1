// The k largest elements of each row of the last dimension and their indices, in descending order. The lowest index
// wins a tie, and NaN comes last.
//
// A block handles a row. The k-th of its threads' highest elements is a lower bound of the result: elements that are as
// high are collected (little more than k), cut to k by halving the range of keys, and sorted. Rows of up to 4096
// elements have a block of 128 threads, and longer ones a block of 1024.
#include <algorithm>

#include "core/checks/choose.h"
#include "cuda/kernels/select.h"

namespace heed::cuda {

constexpr int kTopkThreads = 128, kTopkLongThreads = 1024;
constexpr uint32_t kTopkShared = 2048;  // keys that can be sorted in shared memory

// `scratch` has `stride` keys per block: a row and, if k is large, the keys to sort.
struct TopkParams {
  void* values;
  int32_t* ids;
  const void* inp;
  Key* scratch;
  int64_t rows, stride;
  uint32_t width, k, padded;  // `padded`: k rounded up to a power of two
};

#if HEED_DEVICE_CODE

template <class T, int kThreads>
__device__ __forceinline__ void topk_row(const TopkParams& p, int64_t row, Key* shared) {
  const T* x = static_cast<const T*>(p.inp) + row * p.width;
  Key* list = p.scratch + blockIdx.x * p.stride;
  Key* best = p.padded <= kTopkShared ? shared : list + p.width;
  Key highest = 0;
  over_row(x, p.width, threadIdx.x, kThreads, [&](float v, uint32_t i) { highest = max(highest, key_of(v, i)); });
  const Key floor = floor_of_top<kThreads>(highest, p.k, shared);
  const uint32_t n = collect<kThreads>(list, x, p.width, [&](float, Key key) { return key >= floor; });
  const Key last = n == p.k ? 0 : last_of_prefix<kThreads>(list, n, static_cast<double>(p.k), [](Key) { return 1.0; });

  uint32_t count = 0, total;
  for (uint32_t j = threadIdx.x; j < n; j += kThreads) count += list[j] >= last;
  uint32_t to = block_scan<kThreads>(count, total) - count;
  for (uint32_t j = threadIdx.x; j < n; j += kThreads)
    if (list[j] >= last) best[to++] = list[j];
  for (uint32_t j = p.k + threadIdx.x; j < p.padded; j += kThreads) best[j] = 0;
  sort_keys<kThreads>(best, p.padded);
  for (uint32_t j = threadIdx.x; j < p.k; j += kThreads) {
    const uint32_t i = index_of(best[j]);
    p.ids[row * p.k + j] = static_cast<int32_t>(i);
    static_cast<T*>(p.values)[row * p.k + j] = x[i];
  }
  __syncthreads();  // before the next row
}

template <class T, int kThreads>
__device__ __forceinline__ void topk_rows(const TopkParams& p) {
  __shared__ Key shared[kTopkShared];
  for (int64_t row = blockIdx.x; row < p.rows; row += gridDim.x) topk_row<T, kThreads>(p, row, shared);
}

template <class T>
__device__ void topk_body(const TopkParams& p) {
  topk_rows<T, kTopkThreads>(p);
}
template <class T>
__device__ void topk_long_body(const TopkParams& p) {
  topk_rows<T, kTopkLongThreads>(p);
}

#endif

HEED_KERNEL_FLOATS(topk_kernel, TopkParams, kTopkThreads, 1, topk_body)
HEED_KERNEL_FLOATS(topk_long_kernel, TopkParams, kTopkLongThreads, 1, topk_long_body)

#if !HEED_DEVICE_CODE

constexpr uint32_t kTopkLong = 4096;

void host::topk(Stream& stream, Out values, Out ids, In inp) {
  const char* op = "topk";
  check_topk(values, ids, inp);
  if (ids.empty()) return;
  TopkParams p{};
  p.width = static_cast<uint32_t>(inp.dim(-1));
  p.k = static_cast<uint32_t>(ids.dim(-1));
  p.rows = ids.numel() / p.k;
  p.padded = 1;
  while (p.padded < p.k) p.padded *= 2;
  p.stride = p.width + (p.padded > kTopkShared ? p.padded : 0);
  const bool is_long = p.width > kTopkLong;
  // As many blocks as the card can run at once. Each handles rows one after the other and has scratch memory of its
  // own.
  const int64_t blocks = std::min<int64_t>(p.rows, stream.multiprocessors() * (is_long ? 2 : 16));
  const Stream::Workspace scratch(stream, op, static_cast<size_t>(blocks * p.stride) * sizeof(Key));
  p.values = values.data;
  p.ids = ids.i32();
  p.inp = inp.data;
  p.scratch = scratch.as<Key>();
  stream.launch(op, is_long ? topk_long_kernel(inp.dtype) : topk_kernel(inp.dtype), {blocks}, p);
}

#endif

}  // namespace heed::cuda
