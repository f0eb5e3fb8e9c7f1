// Stochastic gradient descent with momentum (Polyak 1964; Sutskever et al., "On the importance of initialization and
// momentum in deep learning", 2013, for Nesterov's form) over all f32 parameters, in a launch for each 100 or so
// tensors.
//
//   g' = g · min(1, max_norm / (norm + 1e-6)) with `norm`, else g;  d = g' + weight_decay · p;
//   with momentum: m = momentum · m + d, and then d = m, or d + momentum · m with `nesterov`;  p -= lr · d.
//
// If `norm` is NaN or infinite, the step is skipped. Elements are independent.
#include "core/checks/lists.h"
#include "cuda/kernels/chunks.h"

namespace heed::cuda {

constexpr int kSgdChunk = 4096;

struct SgdParams {
  TensorTable<3> tensors;  // params, m, grads; without momentum, params, grads, grads
  const float* norm;       // or null
  float max_norm, lr, momentum, weight_decay;
  bool nesterov;
};

#if HEED_DEVICE_CODE

__device__ void sgd_body(const SgdParams& k) {
  const float scale = clip_scale(k.norm, k.max_norm);
  if (isnan(scale)) return;
  over_chunk<1>(k.tensors, kSgdChunk,
                [&](float(&x)[3]) { x[0] = fmaf(fmaf(x[0], k.weight_decay, x[2] * scale), -k.lr, x[0]); });
}

__device__ void sgd_momentum_body(const SgdParams& k) {
  const float scale = clip_scale(k.norm, k.max_norm);
  if (isnan(scale)) return;
  over_chunk<2>(k.tensors, kSgdChunk, [&](float(&x)[3]) {
    const float d = fmaf(x[0], k.weight_decay, x[2] * scale);
    x[1] = fmaf(x[1], k.momentum, d);
    x[0] = fmaf(k.nesterov ? fmaf(x[1], k.momentum, d) : x[1], -k.lr, x[0]);
  });
}

#endif

HEED_KERNEL(sgd_kernel, SgdParams, kChunkThreads, 1, sgd_body)
HEED_KERNEL(sgd_momentum_kernel, SgdParams, kChunkThreads, 1, sgd_momentum_body)

#if !HEED_DEVICE_CODE

void host::sgd(Stream& stream, InOutList params, InList grads, InOutList m, OptIn norm, Float max_norm, Float lr,
               Float momentum, Float weight_decay, Bool nesterov) {
  check_sgd(params, grads, m, norm, {max_norm, lr, momentum, weight_decay, nesterov});
  SgdParams k{};
  k.norm = norm ? norm->f32() : nullptr;
  k.max_norm = max_norm;
  k.lr = lr;
  k.momentum = momentum;
  k.weight_decay = weight_decay;
  k.nesterov = nesterov;
  const bool moves = momentum > 0;
  for_tables<3>({&params, moves ? &m : &grads, &grads}, kSgdChunk, [&](const TensorTable<3>& tensors, int64_t blocks) {
    k.tensors = tensors;
    stream.launch("sgd", moves ? sgd_momentum_kernel : sgd_kernel, {blocks}, k);
  });
}

#endif

}  // namespace heed::cuda
