// CUB: the primitives of a block.
#include <cub/block/block_radix_sort.cuh>
#include <cub/block/block_reduce.cuh>
#include <cub/block/block_scan.cuh>

namespace {

constexpr int threads = 128, items = 4;

template <cub::BlockReduceAlgorithm algorithm>
__device__ int sum(int value) {
  using Reduce = cub::BlockReduce<int, threads, algorithm>;
  __shared__ typename Reduce::TempStorage storage;
  return Reduce(storage).Sum(value);
}

}  // namespace

// One sum per block by each algorithm: out[block][algorithm].
extern "C" __global__ void reduce(int* out, const int* in) {
  const int value = in[blockIdx.x * threads + threadIdx.x];
  const int raking = sum<cub::BLOCK_REDUCE_RAKING>(value);
  const int commutative = sum<cub::BLOCK_REDUCE_RAKING_COMMUTATIVE_ONLY>(value);
  const int shuffled = sum<cub::BLOCK_REDUCE_WARP_REDUCTIONS>(value);
  if (threadIdx.x == 0) {
    out[3 * blockIdx.x] = raking;
    out[3 * blockIdx.x + 1] = commutative;
    out[3 * blockIdx.x + 2] = shuffled;
  }
}

// Exclusive prefix sums.
extern "C" __global__ void scan(int* out, const int* in) {
  using Scan = cub::BlockScan<int, threads>;
  __shared__ Scan::TempStorage storage;
  int value = in[threadIdx.x];
  Scan(storage).ExclusiveSum(value, value);
  out[threadIdx.x] = value;
}

// Sorts the block's keys, four per thread, together with their values.
extern "C" __global__ void sort(float* keys, int* values) {
  using Sort = cub::BlockRadixSort<float, threads, items, int>;
  __shared__ Sort::TempStorage storage;
  float key[items];
  int value[items];
  const unsigned first = (blockIdx.x * threads + threadIdx.x) * items;
  for (int i = 0; i < items; i++) {
    key[i] = keys[first + i];
    value[i] = values[first + i];
  }
  Sort(storage).Sort(key, value);
  for (int i = 0; i < items; i++) {
    keys[first + i] = key[i];
    values[first + i] = value[i];
  }
}
