// Multiplies all elements of lists of f32 tensors by a number, in place: gradients of a scaled loss become those of the
// loss itself.
#include "core/checks/lists.h"
#include "cuda/kernels/chunks.h"

namespace heed::cuda {

constexpr int kScaleChunk = 8192;

struct ScaleListParams {
  TensorTable<1> tensors;
  float factor;
};

#if HEED_DEVICE_CODE

__device__ void scale_list_body(const ScaleListParams& k) {
  over_chunk<1>(k.tensors, kScaleChunk, [&](float(&x)[1]) { x[0] *= k.factor; });
}

#endif

HEED_KERNEL(scale_list_kernel, ScaleListParams, kChunkThreads, 1, scale_list_body)

#if !HEED_DEVICE_CODE

void host::scale_list(Stream& stream, InOutList tensors, Float factor) {
  check_scale_list(tensors, factor);
  ScaleListParams k{};
  k.factor = factor;
  for_tables<1>({&tensors}, kScaleChunk, [&](const TensorTable<1>& table, int64_t blocks) {
    k.tensors = table;
    stream.launch("scale_list", scale_list_kernel, {blocks}, k);
  });
}

#endif

}  // namespace heed::cuda
