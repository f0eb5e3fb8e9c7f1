// Log-probabilities of some tokens in each of B rows of V logits:
//
//   out[b, j] = x_id - max - log Σ_v e^{x_v - max}, for id = ids[b, j].
//
// Logits may be -inf. The result is NaN if the id is negative, or if the row has no softmax: one of its logits is NaN
// or +inf, or all are -inf. Each row has one block. Sums are in f64, of a fixed shape.
#include "core/checks/choose.h"
#include "cuda/kernels/select.h"

namespace heed::cuda {

constexpr int kLogProbabilitiesThreads = 256;

struct LogProbabilitiesParams {
  float* out;
  const void* logits;
  const int32_t* ids;
  uint32_t V, columns;  // columns of ids and out
  FaultSink fault;
};

#if HEED_DEVICE_CODE

template <class T>
__device__ void log_probabilities_body(const LogProbabilitiesParams& p) {
  constexpr int kThreads = kLogProbabilitiesThreads;
  const T* x = static_cast<const T*>(p.logits) + static_cast<int64_t>(blockIdx.x) * p.V;
  Key highest = 0;
  // NaN is the highest here, so that a row that has any is found.
  over_row(x, p.V, threadIdx.x, kThreads,
           [&](float v, uint32_t i) { highest = max(highest, v == v ? key_of(v, i) : ~Key{0}); });
  const float most = value_of(block_combine<kThreads, Highest>(highest));
  double sum = 0;
  over_row(x, p.V, threadIdx.x, kThreads, [&](float v, uint32_t) { sum += expf(v - most); });
  sum = block_combine<kThreads, Sum>(sum);
  const double normaliser = isfinite(most) ? most + log(sum) : NAN;
  for (uint32_t j = threadIdx.x; j < p.columns; j += kThreads) {
    const int64_t at = static_cast<int64_t>(blockIdx.x) * p.columns + j;
    const int32_t id = p.ids[at];
    if (id >= static_cast<int64_t>(p.V)) report_fault(p.fault, FaultKind::id, id, p.V, at, 0);
    const bool known = id >= 0 && id < static_cast<int64_t>(p.V);
    p.out[at] = known ? static_cast<float>(to_float(x[id]) - normaliser) : NAN;
  }
}

#endif

HEED_KERNEL_FLOATS(log_probabilities_kernel, LogProbabilitiesParams, kLogProbabilitiesThreads, 1,
                   log_probabilities_body)

#if !HEED_DEVICE_CODE

void host::log_probabilities(Stream& stream, Out out, In logits, In ids) {
  const char* op = "log_probabilities";
  check_log_probabilities(out, logits, ids);
  if (out.empty()) return;
  const LogProbabilitiesParams p{
      out.f32(),       logits.data, ids.i32(), static_cast<uint32_t>(logits.dim(1)), static_cast<uint32_t>(ids.dim(1)),
      stream.fault(op)};
  stream.launch(op, log_probabilities_kernel(logits.dtype), {logits.dim(0)}, p);
}

#endif

}  // namespace heed::cuda
