// AdamW (Loshchilov and Hutter, "Decoupled weight decay regularization", 2019) over all parameters in one parallel
// loop.
//
//   g' = g · min(1, max_norm / (norm + 1e-6)) with `norm`, else g;  p -= lr · weight_decay · p;
//   m += (1-β1)(g' - m);  v = β2 v + (1-β2) g'²;  p -= lr / (1-β1^step) · m / (sqrt(v) / sqrt(1-β2^step) + eps).
//
// If `norm` is NaN or infinite, the step is skipped: parameters, m and v stay as they are, so that one bad batch does
// not end a run. Bias corrections are computed in f64. Elements are independent, so any chunking gives the same bits.
#include "core/checks/lists.h"
#include "core/old_glibc.h"
#include "cpu/kernels/chunks.h"
#include "cpu/kernels/clipping.h"
#include "cpu/kernels/rows.h"

namespace heed::cpu {
namespace HEED_ISA {
namespace {

struct Coefficients {
  float decay, rate1, beta2, rate2, step_size, correction2, eps;
};

inline void update(float* p, const float* g, float* m, float* v, int64_t n, const Coefficients& k, float scale) {
  over_row(n, [&](int64_t i, auto lanes, int) {
    const vf grad = lanes.load(g + i) * set1(scale), m0 = lanes.load(m + i);
    const vf m1 = fma(grad - m0, set1(k.rate1), m0);
    const vf v1 = fma(grad * grad, set1(k.rate2), lanes.load(v + i) * set1(k.beta2));
    const vf denominator = fma(vsqrt(v1), set1(k.correction2), set1(k.eps));
    lanes.store(m + i, m1);
    lanes.store(v + i, v1);
    lanes.store(p + i, lanes.load(p + i) * set1(k.decay) - set1(k.step_size) * m1 / denominator);
  });
}

}  // namespace
}  // namespace HEED_ISA

void HEED_ISA::adamw(Stream& stream, InOutList params, InList grads, InOutList m, InOutList v, OptIn norm,
                     Float max_norm, Float lr, Float beta1, Float beta2, Float eps, Float weight_decay, Int step) {
  const char* op = "adamw";
  check_adamw(params, grads, m, v, norm, {max_norm, lr, beta1, beta2, eps, weight_decay, step});

  const double b1 = beta1, b2 = beta2, t = static_cast<double>(step);
  const Coefficients k{static_cast<float>(1 - static_cast<double>(lr) * weight_decay),
                       static_cast<float>(1 - b1),
                       beta2,
                       static_cast<float>(1 - b2),
                       static_cast<float>(lr / (1 - std::pow(b1, t))),
                       static_cast<float>(1 / std::sqrt(1 - std::pow(b2, t))),
                       eps};
  const Stream::Workspace starts(stream, op, static_cast<size_t>(params.size()) * sizeof(int64_t));
  int64_t* first = static_cast<int64_t*>(starts.data());
  const float* total = norm ? norm->f32() : nullptr;
  stream.launch(op, [=] {
    const Clipping clipping(total, max_norm);
    if (clipping.skips) return;
    over_chunks(params, first, [&](int64_t, int64_t i, int64_t begin, int64_t n) {
      update(params[i].f32() + begin, grads[i].f32() + begin, m[i].f32() + begin, v[i].f32() + begin, n, k,
             clipping.scale);
    });
  });
}

}  // namespace heed::cpu
