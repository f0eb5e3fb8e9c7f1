// Lion (Chen et al., "Symbolic discovery of optimization algorithms", 2023) over all parameters in one parallel loop.
//
//   g' = g · min(1, max_norm / (norm + 1e-6)) with `norm`, else g;  u = sign(β1 m + (1-β1) g');
//   p -= lr · weight_decay · p + lr · u;  m = β2 m + (1-β2) g'.
//
// The sign of 0 is 0. If `norm` is NaN or infinite, the step is skipped. Elements are independent, so any chunking
// gives the same bits.
#include "core/checks/lists.h"
#include "cpu/kernels/chunks.h"
#include "cpu/kernels/clipping.h"
#include "cpu/kernels/rows.h"

namespace heed::cpu {
namespace HEED_ISA {
namespace {

struct Rates {
  float lr, decay, beta1, rate1, beta2, rate2;
};

inline void update(float* p, const float* g, float* m, int64_t n, const Rates& k, float scale) {
  over_row(n, [&](int64_t i, auto lanes, int) {
    const vf grad = lanes.load(g + i) * set1(scale), m0 = lanes.load(m + i);
    const vf direction = fma(grad, set1(k.rate1), m0 * set1(k.beta1));
    const vf zero = set1(0);
    const vf step = select(direction > zero, set1(k.lr), select(direction < zero, set1(-k.lr), zero));
    const vf p0 = lanes.load(p + i);
    lanes.store(p + i, p0 - fma(p0, set1(k.decay), step));
    lanes.store(m + i, fma(grad, set1(k.rate2), m0 * set1(k.beta2)));
  });
}

}  // namespace
}  // namespace HEED_ISA

void HEED_ISA::lion(Stream& stream, InOutList params, InList grads, InOutList m, OptIn norm, Float max_norm, Float lr,
                    Float beta1, Float beta2, Float weight_decay) {
  const char* op = "lion";
  check_lion(params, grads, m, norm, {max_norm, lr, beta1, beta2, weight_decay});

  const Rates k{lr,    static_cast<float>(static_cast<double>(lr) * weight_decay),
                beta1, static_cast<float>(1 - static_cast<double>(beta1)),
                beta2, static_cast<float>(1 - static_cast<double>(beta2))};
  const Stream::Workspace starts(stream, op, static_cast<size_t>(params.size()) * sizeof(int64_t));
  int64_t* first = static_cast<int64_t*>(starts.data());
  const float* total = norm ? norm->f32() : nullptr;
  stream.launch(op, [=] {
    const Clipping clipping(total, max_norm);
    if (clipping.skips) return;
    over_chunks(params, first, [&](int64_t, int64_t i, int64_t begin, int64_t n) {
      update(params[i].f32() + begin, grads[i].f32() + begin, m[i].f32() + begin, n, k, clipping.scale);
    });
  });
}

}  // namespace heed::cpu
