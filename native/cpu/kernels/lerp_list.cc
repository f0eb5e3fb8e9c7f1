// Moves lists of tensors towards others: outs[i] += weight · (inps[i] - outs[i]), in one parallel loop. It computes
// moving averages: of weights, and of gradients, which are clipped if there is a norm.
//
//   inp' = inp · min(1, max_norm / (norm + 1e-6)) with `norm`, else inp;  out = out + weight · (inp' - out).
//
// An average of equal numbers is that number, exactly. If `norm` is NaN or infinite, nothing changes.
#include "core/checks/lists.h"
#include "cpu/kernels/chunks.h"
#include "cpu/kernels/clipping.h"
#include "cpu/kernels/rows.h"

namespace heed::cpu {
namespace HEED_ISA {
namespace {

inline void update(float* out, const float* inp, int64_t n, float weight, float scale) {
  over_row(n, [&](int64_t i, auto lanes, int) {
    const vf before = lanes.load(out + i);
    lanes.store(out + i, fma(lanes.load(inp + i) * set1(scale) - before, set1(weight), before));
  });
}

}  // namespace
}  // namespace HEED_ISA

void HEED_ISA::lerp_list(Stream& stream, InOutList outs, InList inps, OptIn norm, Float max_norm, Float weight) {
  const char* op = "lerp_list";
  check_lerp_list(outs, inps, norm, max_norm, weight);

  const Stream::Workspace starts(stream, op, static_cast<size_t>(outs.size()) * sizeof(int64_t));
  int64_t* first = static_cast<int64_t*>(starts.data());
  const float* total = norm ? norm->f32() : nullptr;
  stream.launch(op, [=] {
    const Clipping clipping(total, max_norm);
    if (clipping.skips) return;
    over_chunks(outs, first, [&](int64_t, int64_t i, int64_t begin, int64_t n) {
      update(outs[i].f32() + begin, inps[i].f32() + begin, n, weight, clipping.scale);
    });
  });
}

}  // namespace heed::cpu
