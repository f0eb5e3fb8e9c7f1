// The norm of all gradients together: sqrt(Σ g²) over every element of a list of f32 tensors.
//
// Squares are summed in f64, so that the norm overflows only if f32 cannot hold it. NaN and inf are passed on; they
// make adamw skip the step. One parallel loop goes over fixed chunks, whose sums are added in order, so the result is
// deterministic.
#include "core/checks/lists.h"
#include "cpu/kernels/chunks.h"
#include "cpu/kernels/rows.h"

namespace heed::cpu {
namespace HEED_ISA {
namespace {

typedef float half_vf __attribute__((vector_size(kWidth * 2)));
typedef double half_vd __attribute__((vector_size(kWidth * 4)));

inline double sum_of_squares(const float* x, int64_t n) {
  half_vd low[4] = {}, high[4] = {};
  over_row(n, [&](int64_t i, auto lanes, int u) {
    const vf v = lanes.load(x + i);
    half_vf halves[2];
    __builtin_memcpy(halves, &v, sizeof v);
    const half_vd a = __builtin_convertvector(halves[0], half_vd), b = __builtin_convertvector(halves[1], half_vd);
    low[u] += a * a;
    high[u] += b * b;
  });
  const half_vd total = ((low[0] + high[0]) + (low[1] + high[1])) + ((low[2] + high[2]) + (low[3] + high[3]));
  double sum = 0;
  for (int i = 0; i < kWidth / 2; i++) sum += total[i];
  return sum;
}

}  // namespace
}  // namespace HEED_ISA

void HEED_ISA::global_norm(Stream& stream, Out norm, InList grads) {
  const char* op = "global_norm";
  check_global_norm(norm, grads);
  const int64_t chunks = chunk_count(grads);
  const Stream::Workspace sums(stream, op, static_cast<size_t>(chunks) * sizeof(double));
  const Stream::Workspace starts(stream, op, static_cast<size_t>(grads.size()) * sizeof(int64_t));
  float* result = norm.f32();
  double* partials = static_cast<double*>(sums.data());
  int64_t* first = static_cast<int64_t*>(starts.data());
  stream.launch(op, [=] {
    over_chunks(grads, first, [&](int64_t chunk, int64_t tensor, int64_t begin, int64_t n) {
      partials[chunk] = sum_of_squares(grads[tensor].f32() + begin, n);
    });
    double sum = 0;
    for (int64_t chunk = 0; chunk < chunks; chunk++) sum += partials[chunk];
    *result = static_cast<float>(std::sqrt(sum));
  });
}

}  // namespace heed::cpu
