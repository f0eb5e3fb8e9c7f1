// Moves lists of f32 tensors towards others: outs[i] += weight · (inps[i] - outs[i]). It computes moving averages: of
// weights, and of gradients, which are clipped if there is a norm.
//
//   inp' = inp · min(1, max_norm / (norm + 1e-6)) with `norm`, else inp;  out = out + weight · (inp' - out).
//
// An average of equal numbers is that number, exactly. If `norm` is NaN or infinite, nothing changes.
#include "core/checks/lists.h"
#include "cuda/kernels/chunks.h"

namespace heed::cuda {

constexpr int kLerpChunk = 8192;

struct LerpListParams {
  TensorTable<2> tensors;  // outs, inps
  const float* norm;       // or null
  float max_norm, weight;
};

#if HEED_DEVICE_CODE

__device__ void lerp_list_body(const LerpListParams& k) {
  const float scale = clip_scale(k.norm, k.max_norm);
  if (isnan(scale)) return;
  over_chunk<1>(k.tensors, kLerpChunk, [&](float(&x)[2]) { x[0] = fmaf(x[1] * scale - x[0], k.weight, x[0]); });
}

#endif

HEED_KERNEL(lerp_list_kernel, LerpListParams, kChunkThreads, 1, lerp_list_body)

#if !HEED_DEVICE_CODE

void host::lerp_list(Stream& stream, InOutList outs, InList inps, OptIn norm, Float max_norm, Float weight) {
  check_lerp_list(outs, inps, norm, max_norm, weight);
  LerpListParams k{};
  k.norm = norm ? norm->f32() : nullptr;
  k.max_norm = max_norm;
  k.weight = weight;
  for_tables<2>({&outs, &inps}, kLerpChunk, [&](const TensorTable<2>& tensors, int64_t blocks) {
    k.tensors = tensors;
    stream.launch("lerp_list", lerp_list_kernel, {blocks}, k);
  });
}

#endif

}  // namespace heed::cuda
