// Lion (Chen et al., "Symbolic discovery of optimization algorithms", 2023) over all f32 parameters, in a launch for
// each 100 or so tensors.
//
//   g' = g · min(1, max_norm / (norm + 1e-6)) with `norm`, else g;  u = sign(β1 m + (1-β1) g');
//   p -= lr · weight_decay · p + lr · u;  m = β2 m + (1-β2) g'.
//
// The sign of 0 is 0. If `norm` is NaN or infinite, the step is skipped. Elements are independent.
#include "core/checks/lists.h"
#include "cuda/kernels/chunks.h"

namespace heed::cuda {

constexpr int kLionChunk = 4096;

struct LionParams {
  TensorTable<3> tensors;  // params, m, grads
  const float* norm;       // or null
  float max_norm, lr, decay, beta1, rate1, beta2, rate2;
};

#if HEED_DEVICE_CODE

__device__ void lion_body(const LionParams& k) {
  const float scale = clip_scale(k.norm, k.max_norm);
  if (isnan(scale)) return;
  over_chunk<2>(k.tensors, kLionChunk, [&](float(&x)[3]) {
    const float grad = x[2] * scale, direction = fmaf(grad, k.rate1, x[1] * k.beta1);
    const float step = direction > 0 ? k.lr : direction < 0 ? -k.lr : 0;
    x[0] -= fmaf(x[0], k.decay, step);
    x[1] = fmaf(grad, k.rate2, x[1] * k.beta2);
  });
}

#endif

HEED_KERNEL(lion_kernel, LionParams, kChunkThreads, 1, lion_body)

#if !HEED_DEVICE_CODE

void host::lion(Stream& stream, InOutList params, InList grads, InOutList m, OptIn norm, Float max_norm, Float lr,
                Float beta1, Float beta2, Float weight_decay) {
  check_lion(params, grads, m, norm, {max_norm, lr, beta1, beta2, weight_decay});
  LionParams k{};
  k.norm = norm ? norm->f32() : nullptr;
  k.max_norm = max_norm;
  k.lr = lr;
  k.decay = static_cast<float>(static_cast<double>(lr) * static_cast<double>(weight_decay));
  k.beta1 = beta1;
  k.rate1 = static_cast<float>(1 - static_cast<double>(beta1));
  k.beta2 = beta2;
  k.rate2 = static_cast<float>(1 - static_cast<double>(beta2));
  for_tables<3>({&params, &m, &grads}, kLionChunk, [&](const TensorTable<3>& tensors, int64_t blocks) {
    k.tensors = tensors;
    stream.launch("lion", lion_kernel, {blocks}, k);
  });
}

#endif

}  // namespace heed::cuda
