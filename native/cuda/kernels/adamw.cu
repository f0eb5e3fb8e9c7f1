// AdamW (Loshchilov and Hutter, "Decoupled weight decay regularization", 2019) over all f32 parameters, in one launch
// for each 80 or so tensors.
//
//   g' = g · min(1, max_norm / (norm + 1e-6)) with `norm`, else g;  p -= lr · weight_decay · p;
//   m += (1-β1)(g' - m);  v = β2 v + (1-β2) g'²;  p -= lr / (1-β1^step) · m / (sqrt(v) / sqrt(1-β2^step) + eps).
//
// If `norm` is NaN or infinite, the step is skipped: parameters, m and v stay as they are. It is read on the device, so
// that nothing waits for it. Bias corrections are computed in f64. Elements are independent.
#include <cmath>

#include "core/checks/lists.h"
#include "core/old_glibc.h"
#include "cuda/kernels/chunks.h"

namespace heed::cuda {

constexpr int kAdamwChunk = 4096;

struct AdamwParams {
  TensorTable<4> tensors;  // params, grads, m, v
  const float* norm;       // or null
  float max_norm;
  float decay, rate1, beta2, rate2, step_size, correction2, eps;
};

#if HEED_DEVICE_CODE

__device__ __forceinline__ void adamw_element(const AdamwParams& k, float scale, float& p, float g, float& m,
                                              float& v) {
  const float grad = g * scale;
  m = fmaf(grad - m, k.rate1, m);
  v = fmaf(grad * grad, k.rate2, v * k.beta2);
  const float denominator = fmaf(sqrtf(v), k.correction2, k.eps);
  p = p * k.decay - k.step_size * m / denominator;
}

__device__ void adamw_body(const AdamwParams& k) {
  float scale = 1;
  if (k.norm) {
    const float norm = *k.norm;
    if (!isfinite(norm)) return;
    scale = fminf(1.0f, k.max_norm / (norm + 1e-6f));
  }
  const Chunk chunk = find_chunk(k.tensors, kAdamwChunk);
  float* p = static_cast<float*>(k.tensors.data[0][chunk.tensor]) + chunk.begin;
  const float* g = static_cast<const float*>(k.tensors.data[1][chunk.tensor]) + chunk.begin;
  float* m = static_cast<float*>(k.tensors.data[2][chunk.tensor]) + chunk.begin;
  float* v = static_cast<float*>(k.tensors.data[3][chunk.tensor]) + chunk.begin;
  const uintptr_t addresses = reinterpret_cast<uintptr_t>(p) | reinterpret_cast<uintptr_t>(g) |
                              reinterpret_cast<uintptr_t>(m) | reinterpret_cast<uintptr_t>(v);
  const int vectors = addresses % 16 == 0 ? chunk.n / 4 : 0;
  using Four = Vector<float, 4>;
  for (int i = threadIdx.x; i < vectors; i += kChunkThreads) {
    Four p4 = Four::load(p + i * 4), m4 = Four::load(m + i * 4), v4 = Four::load(v + i * 4);
    const Four g4 = Four::load(g + i * 4);
#pragma unroll
    for (int e = 0; e < 4; e++) adamw_element(k, scale, p4.at[e], g4.at[e], m4.at[e], v4.at[e]);
    p4.store(p + i * 4);
    m4.store(m + i * 4);
    v4.store(v + i * 4);
  }
  for (int i = vectors * 4 + threadIdx.x; i < chunk.n; i += kChunkThreads)
    adamw_element(k, scale, p[i], g[i], m[i], v[i]);
}

#endif

HEED_KERNEL(adamw_kernel, AdamwParams, kChunkThreads, 1, adamw_body)

#if !HEED_DEVICE_CODE

void host::adamw(Stream& stream, InOutList params, InList grads, InOutList m, InOutList v, OptIn norm, Float max_norm,
                 Float lr, Float beta1, Float beta2, Float eps, Float weight_decay, Int step) {
  check_adamw(params, grads, m, v, norm, {max_norm, lr, beta1, beta2, eps, weight_decay, step});
  const double b1 = static_cast<double>(beta1), b2 = static_cast<double>(beta2), t = static_cast<double>(step);
  AdamwParams k{};
  k.norm = norm ? norm->f32() : nullptr;
  k.max_norm = max_norm;
  k.decay = static_cast<float>(1 - static_cast<double>(lr) * static_cast<double>(weight_decay));
  k.rate1 = static_cast<float>(1 - b1);
  k.beta2 = beta2;
  k.rate2 = static_cast<float>(1 - b2);
  k.step_size = static_cast<float>(static_cast<double>(lr) / (1 - std::pow(b1, t)));
  k.correction2 = static_cast<float>(1 / std::sqrt(1 - std::pow(b2, t)));
  k.eps = eps;
  for_tables<4>({&params, &grads, &m, &v}, kAdamwChunk, [&](const TensorTable<4>& tensors, int64_t blocks) {
    k.tensors = tensors;
    stream.launch("adamw", adamw_kernel, {blocks}, k);
  });
}

#endif

}  // namespace heed::cuda
