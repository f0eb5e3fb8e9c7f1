// Softmax cross-entropy with label smoothing (Szegedy et al., 2016), loss and gradient in one go over rows of V logits.
//
// loss_row = log Σ_v e^{x_v} - (1-s) x_target - s · mean(x); dlogits = (softmax(x) - (1-s) onehot - s/V) / rows counted.
// The log-sum-exp is online in blocks (Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018): a row
// comes from memory once and, for the gradient, once more from cache. Rows run in parallel; losses are summed in f64 over
// fixed chunks. Ignored rows, also when they are all of them, give a loss and gradient of 0. Logits may be -inf.
#include "cpu/kernels/rows.h"

namespace heed::cpu {
namespace HEED_ISA {
namespace {

struct Settings {
  int64_t V, ignore_index;
  double smoothing;
};

// Σ e^x = sum · e^max; spread = Σ x, only where smoothing asks for it (a logit of -inf makes it -inf).
struct Normaliser {
  float max;
  double sum, spread;
};

inline Normaliser normaliser(const float* x, int64_t V, bool smoothing) {
  constexpr int64_t kBlock = 1024;  // 4 KB: what the maximum has read, the sum finds in L1
  Normaliser n{-INFINITY, 0, 0};
  for (int64_t begin = 0; begin < V; begin += kBlock) {
    const int64_t size = min_of(kBlock, V - begin);
    const float* block = x + begin;
    const vf lowest = set1(-INFINITY);
    vf top[4] = {lowest, lowest, lowest, lowest};
    over_row(size, [&](int64_t i, auto lanes, int u) { top[u] = vmax(lanes.keep(lanes.load(block + i), -INFINITY), top[u]); });
    const float highest = hmax(top);
    if (highest > n.max) {
      n.sum *= std::exp(static_cast<double>(n.max) - highest);
      n.max = highest;
    }
    // Before the first finite logit there is no maximum to subtract; e^{-inf} is 0 without.
    const vf reference = set1(n.max == -INFINITY ? 0 : n.max);
    vf sum[4] = {}, spread[4] = {};
    over_row(size, [&](int64_t i, auto lanes, int u) {
      const vf d = lanes.load(block + i) - reference;
      sum[u] += lanes.keep(vexp(d));
      if (smoothing) spread[u] += lanes.keep(d);
    });
    n.sum += hsum(sum);
    if (smoothing) n.spread += hsum(spread) + static_cast<double>(size) * reference[0];
  }
  return n;
}

inline double loss_of_row(const float* x, int32_t target, const Normaliser& n, const Settings& s) {
  const double max = n.max;
  double loss = std::log(n.sum);
  if (s.smoothing < 1) loss += (1 - s.smoothing) * (max - x[target]);
  if (s.smoothing > 0) loss += s.smoothing * (max - n.spread / static_cast<double>(s.V));
  return loss;
}

inline void gradient_of_row(float* dx, const float* x, int32_t target, const Normaliser& n, const Settings& s,
                            double scale) {
  const vf max = set1(n.max), factor = set1(static_cast<float>(scale / n.sum));
  const vf uniform = set1(static_cast<float>(scale * s.smoothing / static_cast<double>(s.V)));
  over_row(s.V, [&](int64_t i, auto lanes, int) {
    lanes.store(dx + i, vexp(lanes.load(x + i) - max) * factor - uniform);
  });
  dx[target] -= static_cast<float>(scale * (1 - s.smoothing));
}

// How many rows count.
inline int64_t check_targets(const int32_t* targets, int64_t rows, const Settings& s) {
  int64_t counted = 0;
  for (int64_t r = 0; r < rows; r++) {
    if (targets[r] == s.ignore_index) continue;
    if (targets[r] < 0 || targets[r] >= s.V)
      fail(Code::range, "target %d at position %lld is outside [0, %lld)", targets[r], static_cast<long long>(r),
           static_cast<long long>(s.V));
    counted++;
  }
  return counted;
}

}  // namespace
}  // namespace HEED_ISA

void HEED_ISA::cross_entropy(Stream& stream, Out loss, OptOut losses, OptOut dlogits, In logits, In targets,
                             Int ignore_index, Float smoothing) {
  const char* op = "cross_entropy";
  expect_rows(op, "logits", logits);
  const int64_t V = logits.dim(-1), rows = leading(logits).numel();
  expect_f32(op, "loss", loss);
  if (loss.numel() != 1) expect_shape(op, "loss", loss, {1});
  if (losses) expect_f32(op, "losses", *losses), expect_same_shape(op, "losses", *losses, leading(logits));
  if (dlogits) expect_f32(op, "dlogits", *dlogits), expect_same_shape(op, "dlogits", *dlogits, logits);
  expect_dtype(op, "targets", targets, DType::i32);
  expect_contiguous(op, "targets", targets);
  expect_same_shape(op, "targets", targets, leading(logits));
  if (!(smoothing >= 0 && smoothing <= 1))
    fail(Code::range, "%s: expected smoothing from 0 to 1, got %g", op, smoothing);

  const Settings settings{V, ignore_index, smoothing};
  const int64_t grain = rows_per_task(V), chunks = ceil_div(rows, grain);
  const Stream::Workspace workspace(stream, op, static_cast<size_t>(chunks) * sizeof(double));
  double* partials = static_cast<double*>(workspace.data());
  float *mean = loss.f32(), *row_losses = losses ? losses->f32() : nullptr, *dx = dlogits ? dlogits->f32() : nullptr;
  const float* x = logits.f32();
  const int32_t* target = targets.i32();
  stream.launch(op, [=] {
    const int64_t counted = check_targets(target, rows, settings);
    const double scale = 1.0 / static_cast<double>(max_of<int64_t>(counted, 1));
    parallel_for(rows, grain, [=](int64_t begin, int64_t end) {
      double sum = 0;
      for (int64_t r = begin; r < end; r++) {
        double row_loss = 0;
        if (target[r] != settings.ignore_index) {
          const Normaliser n = normaliser(x + r * V, V, settings.smoothing > 0);
          row_loss = loss_of_row(x + r * V, target[r], n, settings);
          if (dx) gradient_of_row(dx + r * V, x + r * V, target[r], n, settings, scale);
        } else if (dx) {
          std::memset(dx + r * V, 0, static_cast<size_t>(V) * sizeof(float));
        }
        if (row_losses) row_losses[r] = static_cast<float>(row_loss);
        sum += row_loss;
      }
      partials[begin / grain] = sum;
    });
    double sum = 0;
    for (int64_t chunk = 0; chunk < chunks; chunk++) sum += partials[chunk];
    *mean = static_cast<float>(sum * scale);
  });
}

}  // namespace heed::cpu
