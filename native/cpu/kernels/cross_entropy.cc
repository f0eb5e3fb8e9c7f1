// Softmax cross-entropy with label smoothing (Szegedy et al., 2016): loss and gradient in one pass over rows of V
// logits.
//   loss_row = log Σ_v e^{x_v} - (1-s) x_target - s · mean(x),
//   dlogits = (softmax(x) - (1-s) onehot - s/V) / (number of rows that count) · scale.
//
// The log-sum-exp is online in blocks (Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018), so a
// row is read from memory once. In f32 its exponentials are left in dlogits and scaled from cache; a shorter type would
// round them, so they are computed again. Rows run in parallel; losses are summed in f64 over fixed chunks. Ignored
// rows give a loss and a gradient of 0, even if all rows are ignored. Logits may be -inf. Subnormal numbers count as
// zeros. dlogits may be the logits' memory. Backward needs dlogits only.
#include "core/checks/cross_entropy.h"
#include "core/old_glibc.h"
#include "cpu/kernels/flush_subnormals.h"
#include "cpu/kernels/rows.h"

namespace heed::cpu {
namespace HEED_ISA {
namespace {

struct Settings {
  int64_t V, ignore_index;
  double smoothing;
};

// The result of one pass over a row. Block b's exponentials were computed relative to references[b], the maximum so
// far.
struct Normaliser {
  static constexpr int64_t kBlocks = 64;
  float max = -INFINITY;
  double sum = 0;     // Σ e^{x - max}
  double spread = 0;  // Σ x, only if smoothing needs it (a logit of -inf makes it -inf)
  float references[kBlocks];
};

// At least 4 KB, so that the sum finds the values in L1 that the maximum has read.
inline int64_t block_size(int64_t V) { return max_of<int64_t>(1024, ceil_div(V, Normaliser::kBlocks)); }

// The exponentials go to `e`, if it is given, for the gradient.
template <class T>
inline void normalise(Normaliser& n, float* e, const T* x, int64_t V, bool smoothing) {
  const int64_t block = block_size(V);
  for (int64_t begin = 0; begin < V; begin += block) {
    const int64_t size = min_of(block, V - begin);
    const vf lowest = set1(-INFINITY);
    vf top[4] = {lowest, lowest, lowest, lowest};
    over_row(size, [&](int64_t i, auto lanes, int u) {
      top[u] = vmax(lanes.keep(lanes.load(x + begin + i), -INFINITY), top[u]);
    });
    const float highest = hmax(top);
    if (highest > n.max) {
      if (n.sum > 0) n.sum *= std::exp(static_cast<double>(n.max) - highest);
      n.max = highest;
    }
    n.references[begin / block] = n.max;
    // Before the first finite logit there is no maximum to subtract, and e^{-inf} is 0 without it.
    const float reference = n.max == -INFINITY ? 0 : n.max;
    vf sum[4] = {}, spread[4] = {};
    over_row(size, [&](int64_t i, auto lanes, int u) {
      const vf d = lanes.load(x + begin + i) - set1(reference), exponential = vexp(d);
      if (e) lanes.store(e + begin + i, exponential);
      sum[u] += lanes.keep(exponential);
      if (smoothing) spread[u] += lanes.keep(d);
    });
    n.sum += hsum(sum);
    if (smoothing) n.spread += hsum(spread) + static_cast<double>(size) * reference;
  }
}

// Computes the gradient from the logits or, in f32, from their exponentials in dx.
template <class T>
inline void gradient(T* dx, const T* x, int32_t target, const Normaliser& n, const Settings& s, double scale) {
  const float at_target = static_cast<float>(scale * (1 - s.smoothing));
  const int64_t block = block_size(s.V);
  const vf uniform = set1(static_cast<float>(scale * s.smoothing / static_cast<double>(s.V)));
  for (int64_t begin = 0; begin < s.V; begin += block) {
    const float reference = n.references[begin / block];
    const double share = reference == n.max ? 1 : std::exp(static_cast<double>(reference) - n.max);
    const vf factor = set1(static_cast<float>(share * scale / n.sum)),
             shift = set1(reference == -INFINITY ? 0 : reference);
    const auto value = [&](int64_t i, auto lanes) {
      if constexpr (std::is_same_v<T, float>)
        return lanes.load(dx + i) * factor - uniform;
      else
        return vexp(lanes.load(x + i) - shift) * factor - uniform;
    };
    // The target's value is computed as its own vector will give it, before it is rounded or its logit is replaced.
    const int64_t size = min_of(block, s.V - begin);
    float exact = 0;
    const bool here = target >= begin && target < begin + size;
    if (here) exact = value(target, PartVector{1})[0];
    over_row(size, [&](int64_t i, auto lanes, int) { lanes.store(dx + begin + i, value(begin + i, lanes)); });
    if (here) store_one(dx + target, exact - at_target);
  }
}

// Returns the loss of a row and, if dx is given, computes its gradient times `scale`.
template <class T>
inline double row(T* dx, const T* x, int32_t target, const Settings& s, double scale) {
  const float at_target = load_one(x + target);  // before the exponentials may replace it
  Normaliser n;
  float* e = nullptr;
  if constexpr (std::is_same_v<T, float>) e = dx;
  normalise(n, e, x, s.V, s.smoothing > 0);
  const double max = n.max;
  double loss = std::log(n.sum);
  if (s.smoothing < 1) loss += (1 - s.smoothing) * (max - at_target);
  if (s.smoothing > 0) loss += s.smoothing * (max - n.spread / static_cast<double>(s.V));
  if (dx) gradient(dx, x, target, n, s, scale);
  return loss;
}

// Returns the number of rows that count.
inline int64_t check_targets(const int32_t* targets, int64_t rows, const Settings& s) {
  int64_t counted = 0;
  for (int64_t r = 0; r < rows; r++) {
    if (targets[r] == s.ignore_index) continue;
    if (targets[r] < 0 || targets[r] >= s.V)
      fail(Code::range, "expected targets in [0, %lld), got %d at position %lld", static_cast<long long>(s.V),
           targets[r], static_cast<long long>(r));
    counted++;
  }
  return counted;
}

}  // namespace
}  // namespace HEED_ISA

void HEED_ISA::cross_entropy(Stream& stream, Out loss, OptOut losses, OptOut dlogits, In logits, In targets, Int first,
                             Int ignore_index, Float smoothing, Float scale, Accumulate accumulate) {
  const char* op = "cross_entropy";
  check_cross_entropy(op, loss, losses, dlogits, logits, targets, first, smoothing, scale);
  const int64_t V = logits.dim(-1), rows = leading_shape(logits).numel();

  const Settings settings{V, ignore_index, smoothing};
  const int64_t grain = rows_per_task(V), chunks = ceil_div(rows, grain);
  const Stream::Workspace workspace(stream, op, static_cast<size_t>(chunks) * sizeof(double));
  double* partials = static_cast<double*>(workspace.data());
  float *mean = loss.f32(), *row_losses = losses ? losses->f32() : nullptr;
  const int32_t *all = targets.i32(), *target = all + first;
  const int64_t count = targets.numel();
  with_float_type(logits.dtype, [&](auto type) {
    using T = decltype(type);
    T* dx = dlogits ? dlogits->ptr<T>() : nullptr;
    const T* x = logits.ptr<T>();
    stream.launch(op, [=] {
      const int64_t counted = check_targets(all, count, settings);
      const double share = 1.0 / static_cast<double>(max_of<int64_t>(counted, 1));
      parallel_for(rows, grain, [=](int64_t begin, int64_t end) {
        const FlushSubnormals flush;
        double sum = 0;
        for (int64_t r = begin; r < end; r++) {
          double row_loss = 0;
          if (target[r] != settings.ignore_index) {
            row_loss = row(dx ? dx + r * V : nullptr, x + r * V, target[r], settings, scale * share);
          } else if (dx) {
            std::memset(dx + r * V, 0, static_cast<size_t>(V) * sizeof(T));
          }
          if (row_losses) row_losses[r] = static_cast<float>(row_loss);
          sum += row_loss;
        }
        partials[begin / grain] = sum;
      });
      double sum = 0;
      for (int64_t chunk = 0; chunk < chunks; chunk++) sum += partials[chunk];
      *mean = static_cast<float>((accumulate ? static_cast<double>(*mean) : 0) + sum * share);
    });
  });
}

}  // namespace heed::cpu
