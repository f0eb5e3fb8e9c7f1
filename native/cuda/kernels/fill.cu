// Fill: out[...] = value, converted to the dtype of `out`; any strides. One thread an element.
#include "cuda/kernels/kernel.h"

namespace heed::cuda {

struct FillParams {
  void* out;
  float value;
  int64_t n;
  int64_t shape[kMaxRank], strides[kMaxRank];
  int rank;
};

#if HEED_DEVICE_CODE

template <class T>
__device__ void fill_body(const FillParams& p) {
  int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= p.n) return;
  int64_t offset = 0;
  for (int d = p.rank - 1; d >= 0; d--) {
    offset += i % p.shape[d] * p.strides[d];
    i /= p.shape[d];
  }
  static_cast<T*>(p.out)[offset] = from_float<T>(p.value);
}

#endif

HEED_KERNEL_FLOATS(fill_kernel, FillParams, 256, 1, fill_body)

#if !HEED_DEVICE_CODE

void fill(Stream& stream, Out out, Float value) {
  const char* op = "fill";
  if (out.empty()) return;
  FillParams p{out.data, value, out.numel(), {}, {}, out.rank};
  for (int d = 0; d < out.rank; d++) {
    p.shape[d] = out.shape[d];
    p.strides[d] = out.strides[d];
  }
  stream.launch(op, fill_kernel(out.dtype), {(p.n + 255) / 256}, p);
}

#endif

}  // namespace heed::cuda
