// Returns the index of the largest element of each row of the last dimension. The lowest index wins a tie, and NaN
// loses to every number. A row is handled by a warp, or by a block if rows are long.
#include "core/checks/choose.h"
#include "cuda/kernels/select.h"

namespace heed::cuda {

constexpr int kArgmaxThreads = 256, kArgmaxLongThreads = 1024;

struct ArgmaxParams {
  int32_t* ids;
  const void* inp;
  int64_t rows;
  uint32_t width;
};

#if HEED_DEVICE_CODE

template <class T>
__device__ __forceinline__ Key highest_of(const ArgmaxParams& p, int64_t row, uint32_t thread, uint32_t threads) {
  Key highest = 0;
  over_row(static_cast<const T*>(p.inp) + row * p.width, p.width, thread, threads,
           [&](float x, uint32_t i) { highest = max(highest, key_of(x, i)); });
  return highest;
}

template <class T>
__device__ void argmax_body(const ArgmaxParams& p) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * (kArgmaxThreads / 32) + threadIdx.x / 32;
  if (row >= p.rows) return;
  const Key highest = warp_combine<Highest>(highest_of<T>(p, row, threadIdx.x % 32, 32));
  if (threadIdx.x % 32 == 0) p.ids[row] = static_cast<int32_t>(index_of(highest));
}

template <class T>
__device__ void argmax_long_body(const ArgmaxParams& p) {
  const Key highest =
      block_combine<kArgmaxLongThreads, Highest>(highest_of<T>(p, blockIdx.x, threadIdx.x, kArgmaxLongThreads));
  if (threadIdx.x == 0) p.ids[blockIdx.x] = static_cast<int32_t>(index_of(highest));
}

#endif

HEED_KERNEL_FLOATS(argmax_kernel, ArgmaxParams, kArgmaxThreads, 1, argmax_body)
HEED_KERNEL_FLOATS(argmax_long_kernel, ArgmaxParams, kArgmaxLongThreads, 1, argmax_long_body)

#if !HEED_DEVICE_CODE

constexpr uint32_t kArgmaxLong = 2048;

void host::argmax(Stream& stream, Out ids, In inp) {
  check_argmax(ids, inp);
  if (ids.empty()) return;
  const ArgmaxParams p{ids.i32(), inp.data, ids.numel(), static_cast<uint32_t>(inp.dim(-1))};
  if (p.width >= kArgmaxLong) return stream.launch("argmax", argmax_long_kernel(inp.dtype), {p.rows}, p);
  const int64_t a_block = kArgmaxThreads / 32;
  stream.launch("argmax", argmax_kernel(inp.dtype), {(p.rows + a_block - 1) / a_block}, p);
}

#endif

}  // namespace heed::cuda
