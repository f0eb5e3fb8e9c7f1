// Sums, means and maxima in float64.
//
// Tolerance of a sum: no element goes through more than 24 f32 additions (16 in a lane, three or four in joining lanes,
// with some to spare) before f64 takes over, and the result is rounded once, so the error is at most
// 24 · 2^-24 · Σ|x| + 2^-24 · |Σx|. It is a bound, not an estimate: a plain f32 sum over many elements breaks it.
#include "reduce_reference.h"

#include "core/kinds.h"

namespace heed::test {
namespace {

constexpr double kRounding = 0x1p-24;

// One for each element of out.
struct Totals {
  std::vector<double> sum, magnitude, max;
};

Totals totals(const TensorView& inp, unsigned mask, int64_t outputs) {
  const size_t n = static_cast<size_t>(outputs);
  Totals result{std::vector<double>(n), std::vector<double>(n), std::vector<double>(n, -HUGE_VAL)};
  int64_t index[kMaxRank] = {}, steps[kMaxRank], from = 0, at = 0, step = 1;
  for (int d = inp.rank - 1; d >= 0; d--) {
    const bool reduced = mask >> d & 1;
    steps[d] = reduced ? 0 : step;
    if (!reduced) step *= inp.shape[d];
  }
  for (int64_t i = inp.numel(); i > 0; i--) {
    const double x = static_cast<double>(inp.f32()[from]);
    double& max = result.max[static_cast<size_t>(at)];
    max = x > max || std::isnan(x) ? x : max;
    result.sum[static_cast<size_t>(at)] += x;
    result.magnitude[static_cast<size_t>(at)] += std::fabs(x);
    for (int d = inp.rank - 1; d >= 0; d--) {
      from += inp.strides[d], at += steps[d];
      if (++index[d] < inp.shape[d]) break;
      from -= inp.strides[d] * inp.shape[d], at -= steps[d] * inp.shape[d];
      index[d] = 0;
    }
  }
  return result;
}

}  // namespace

Shape reduced_shape(const TensorView& inp, unsigned mask) {
  Shape shape(inp.shape, inp.shape + inp.rank);
  for (int d = 0; d < inp.rank; d++)
    if (mask >> d & 1) shape[static_cast<size_t>(d)] = 1;
  return shape;
}

void check_all_kinds(Stream& stream, const Ops& ops, const TensorView& inp, unsigned mask, Layout layout) {
  const Shape shape = reduced_shape(inp, mask);
  const int64_t outputs = numel(shape);
  const Totals expected = totals(inp, mask, outputs);
  for (const ReduceKind kind : {ReduceKind::sum, ReduceKind::mean, ReduceKind::max}) {
    Laid<float> out(shape, layout);
    ops.reduce(stream, out, inp, static_cast<Int>(kind), false);
    synchronize(stream);
    const double count = kind == ReduceKind::mean ? static_cast<double>(inp.numel() / outputs) : 1;
    for (int64_t i = 0; i < outputs; i++) {
      const size_t at = static_cast<size_t>(i);
      const double got = static_cast<double>(out.at(i));
      double wanted = expected.max[at], tolerance = 0;
      if (kind != ReduceKind::max) {
        wanted = expected.sum[at] / count;
        tolerance = kRounding * (24 * expected.magnitude[at] / count + std::fabs(wanted));
      }
      if (got == wanted || std::fabs(got - wanted) <= tolerance) continue;
      report("kind %d, dimensions %#x of [%lld, ...]: element %lld is %.9g, expected %.9g to %.2g",
             static_cast<int>(kind), mask, static_cast<long long>(inp.shape[0]), static_cast<long long>(i), got, wanted,
             tolerance);
      break;
    }
    EXPECT(out.gaps_are(0));
  }
}

}  // namespace heed::test
