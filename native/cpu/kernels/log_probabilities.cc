// Log-probabilities of some tokens in each of B rows of V logits:
//
//   out[b, j] = x_id - max - log Σ_v e^{x_v - max}, for id = ids[b, j].
//
// Logits may be -inf. The result is NaN if the id is negative, or if the row has no softmax: one of its logits is NaN
// or +inf, or all are -inf. Sums are in f64, of a fixed shape. Rows run in parallel.
#include "core/checks/choose.h"
#include "core/old_glibc.h"
#include "cpu/kernels/elementary.h"
#include "cpu/kernels/select.h"

namespace heed::cpu {
namespace HEED_ISA {
namespace {

// Returns max + log Σ e^{x - max}, or NaN if the row has no softmax.
template <class T>
inline double log_sum_exp(const T* x, int64_t V) {
  constexpr int64_t kBlock = 1024;
  const int64_t best = argmax_row<true>(x, V);
  const float max = best < 0 ? NAN : load_one(x + best);
  if (!std::isfinite(max)) return NAN;
  double sum = 0;
  for (int64_t begin = 0; begin < V; begin += kBlock) {
    vf parts[4] = {};
    over_row(min_of(kBlock, V - begin), [&](int64_t i, auto lanes, int u) {
      parts[u] += lanes.keep(vexp_normal(lanes.load(x + begin + i) - set1(max)));
    });
    sum += hsum(parts);
  }
  return max + std::log(sum);
}

}  // namespace
}  // namespace HEED_ISA

void HEED_ISA::log_probabilities(Stream& stream, Out out, In logits, In ids) {
  const char* op = "log_probabilities";
  check_log_probabilities(out, logits, ids);
  const int64_t B = logits.dim(0), V = logits.dim(1), J = ids.dim(1);
  if (B * J == 0) return;
  const int32_t* id = ids.i32();
  float* y = out.f32();
  with_float_type(logits.dtype, [&](auto type) {
    const auto* x = logits.ptr<decltype(type)>();
    stream.launch(op, [=] {
      for (int64_t i = 0; i < B * J; i++)
        if (id[i] >= V)
          fail(Code::range, "expected ids in [0, %lld), got %d at position %lld", static_cast<long long>(V), id[i],
               static_cast<long long>(i));
      parallel_for(B, 1, [=](int64_t begin, int64_t end) {
        for (int64_t b = begin; b < end; b++) {
          const double normaliser = log_sum_exp(x + b * V, V);
          for (int64_t j = b * J; j < (b + 1) * J; j++)
            y[j] = id[j] < 0 ? NAN : static_cast<float>(load_one(x + b * V + id[j]) - normaliser);
        }
      });
    });
  });
}

}  // namespace heed::cpu
