// Stochastic gradient descent with momentum (Polyak 1964; Sutskever et al., "On the importance of initialization and
// momentum in deep learning", 2013, for Nesterov's form) over all parameters in one parallel loop, as PyTorch defines
// it.
//
//   g' = g · min(1, max_norm / (norm + 1e-6)) with `norm`, else g;  d = g' + weight_decay · p;
//   with momentum: m = momentum · m + d, and then d = m, or d + momentum · m with `nesterov`;  p -= lr · d.
//
// If `norm` is NaN or infinite, the step is skipped. Elements are independent, so any chunking gives the same bits.
#include "core/checks/lists.h"
#include "cpu/kernels/chunks.h"
#include "cpu/kernels/clipping.h"
#include "cpu/kernels/rows.h"

namespace heed::cpu {
namespace HEED_ISA {
namespace {

struct Rates {
  float lr, momentum, weight_decay;
  bool nesterov;
};

// `m` is null without momentum.
inline void update(float* p, const float* g, float* m, int64_t n, const Rates& k, float scale) {
  over_row(n, [&](int64_t i, auto lanes, int) {
    const vf p0 = lanes.load(p + i);
    vf d = fma(p0, set1(k.weight_decay), lanes.load(g + i) * set1(scale));
    if (m) {
      const vf m1 = fma(lanes.load(m + i), set1(k.momentum), d);
      lanes.store(m + i, m1);
      d = k.nesterov ? fma(m1, set1(k.momentum), d) : m1;
    }
    lanes.store(p + i, fma(d, set1(-k.lr), p0));
  });
}

}  // namespace
}  // namespace HEED_ISA

void HEED_ISA::sgd(Stream& stream, InOutList params, InList grads, InOutList m, OptIn norm, Float max_norm, Float lr,
                   Float momentum, Float weight_decay, Bool nesterov) {
  const char* op = "sgd";
  check_sgd(params, grads, m, norm, {max_norm, lr, momentum, weight_decay, nesterov});

  const Rates k{lr, momentum, weight_decay, nesterov};
  const Stream::Workspace starts(stream, op, static_cast<size_t>(params.size()) * sizeof(int64_t));
  int64_t* first = static_cast<int64_t*>(starts.data());
  const float* total = norm ? norm->f32() : nullptr;
  stream.launch(op, [=] {
    const Clipping clipping(total, max_norm);
    if (clipping.skips) return;
    over_chunks(params, first, [&](int64_t, int64_t i, int64_t begin, int64_t n) {
      float* moment = m.size() > 0 ? m[i].f32() + begin : nullptr;
      update(params[i].f32() + begin, grads[i].f32() + begin, moment, n, k, clipping.scale);
    });
  });
}

}  // namespace heed::cpu
