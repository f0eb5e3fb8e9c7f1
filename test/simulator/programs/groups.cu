// Cooperative groups.
#include <cooperative_groups.h>
#include <cooperative_groups/reduce.h>
#include <cooperative_groups/scan.h>

namespace cg = cooperative_groups;

// Sums and inclusive prefix sums within tiles of 8 threads.
extern "C" __global__ void tiles(int* sums, int* prefixes, const int* in) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  const auto tile = cg::tiled_partition<8>(cg::this_thread_block());
  sums[i] = cg::reduce(tile, in[i], cg::plus<int>());
  prefixes[i] = cg::inclusive_scan(tile, in[i], cg::plus<int>());
}

// Every third thread takes part: its rank, and the sum over the participating threads of its warp. The others write
// nothing.
extern "C" __global__ void coalesced(unsigned* ranks, unsigned* sums, unsigned* total) {
  const unsigned i = threadIdx.x;
  if (i % 3 != 0) return;
  const cg::coalesced_group group = cg::coalesced_threads();
  ranks[i] = group.thread_rank();
  sums[i] = cg::reduce(group, i, cg::plus<unsigned>());
  if (group.thread_rank() == 0) atomicAdd(total, group.size());
}

// Groups the threads of a warp by their key, and returns how many share it.
extern "C" __global__ void labelled(unsigned* sizes, const int* keys) {
  const unsigned i = threadIdx.x;
  const auto warp = cg::tiled_partition<32>(cg::this_thread_block());
  sizes[i] = cg::labeled_partition(warp, keys[i]).size();
}

// The last thread's value through shared memory, with a block's barrier in between.
extern "C" __global__ void block_barrier(int* out, const int* in) {
  __shared__ int values[1024];
  const cg::thread_block block = cg::this_thread_block();
  const unsigned i = block.thread_rank(), n = block.size();
  values[i] = in[i];
  block.sync();
  out[i] = values[n - 1 - i];
}
