// Fill: out[...] = value, converted to the dtype of `out`; any strides.
//
// The host converts the value to bits, so that one kernel per element size is enough. Contiguous tensors are written in
// 16-byte vectors.
#include "core/checks/elementwise.h"
#include "cuda/kernels/convert.h"
#include "cuda/kernels/strided.h"

namespace heed::cuda {

struct FillParams {
  Elements<1> elements;
  void* out;
  uint32_t bits;
};

#if HEED_DEVICE_CODE

template <class Bits>
__device__ void fill_body(const FillParams& p) {
  constexpr int V = 16 / sizeof(Bits);
  Vector<Bits, V> value;
#pragma unroll
  for (int k = 0; k < V; k++) value.at[k] = static_cast<Bits>(p.bits);
  store_lanes<0>(lanes_of<V>(p.elements), p.out, value);
}

#endif

HEED_KERNEL(fill_4, FillParams, kElementThreads, 1, fill_body<uint32_t>)
HEED_KERNEL(fill_2, FillParams, kElementThreads, 1, fill_body<uint16_t>)
HEED_KERNEL(fill_1, FillParams, kElementThreads, 1, fill_body<uint8_t>)

#if !HEED_DEVICE_CODE

void host::fill(Stream& stream, Out out, Float value) {
  const char* op = "fill";
  check_fill(out);
  if (out.empty()) return;
  const uint32_t bits = bits_of(value, out.dtype);
  if (bits == 0 && out.contiguous()) {
    stream.zero(op, out.data, static_cast<size_t>(out.numel()) * size_of(out.dtype));
    return;
  }
  Kernel<FillParams>& kernel = size_of(out.dtype) == 4 ? fill_4 : size_of(out.dtype) == 2 ? fill_2 : fill_1;
  for_launches<1>({&out}, vector_width(out.dtype), [&](const Elements<1>& elements, void* const* data, int64_t blocks) {
    stream.launch(op, kernel, {blocks}, FillParams{elements, data[0], bits});
  });
}

#endif

}  // namespace heed::cuda
