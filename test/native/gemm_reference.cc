// Matrix products and what gemm does to them, in float64.
//
// Tolerance: the sum of K products in f32, in any order, is off by at most K · 2^-24 · Σ|a b| to first order (Higham,
// Accuracy and Stability of Numerical Algorithms, 3.1); each later addition adds 2^-24 of the terms so far, hence the
// K + 8. An activation multiplies that by its slope, at most 1.13, and is itself good to kActivation (activation_test).
#include "gemm_reference.h"

#include "activations.h"

namespace heed::test::gemm {
namespace {

constexpr double kActivation = 2.5e-6;

// Rows further apart than they are long, for operands that may be so.
struct Padded : Any {
  Padded(DType dtype, Shape shape, int64_t padding) : Any(dtype, widened(shape, padding)) {
    view.shape[view.rank - 1] -= padding;
  }
  static Shape widened(Shape shape, int64_t padding) {
    shape.back() += padding;
    return shape;
  }
  // Its memory, gaps included.
  std::vector<char> copy() const {
    const char* first = static_cast<const char*>(view.data);
    return {first, first + static_cast<size_t>(bytes.memory.size) * size_of(view.dtype)};
  }
};

// Random numbers that the dtype holds.
void fill(Any& any, Random& random, float low = -1, float high = 1) {
  const TensorView view = any.view;
  any.view.rank = 1, any.view.shape[0] = any.bytes.memory.size, any.view.strides[0] = 1;
  for (int64_t i = 0; i < any.bytes.memory.size; i++)
    any.set(i, converted(view.dtype, static_cast<double>(random.uniform(low, high))));
  any.view = view;
}

double rounding_of(DType dtype) { return dtype == DType::f32 ? 0 : dtype == DType::bf16 ? 0x1p-8 : 0x1p-11; }

Shape with(Shape shape, int64_t rows, int64_t columns) {
  shape.push_back(rows);
  shape.push_back(columns);
  return shape;
}

std::vector<double> dense(const Any& any) {
  std::vector<double> values(static_cast<size_t>(any.view.numel()));
  for (int64_t i = 0; i < any.view.numel(); i++) values[static_cast<size_t>(i)] = any.get(i);
  return values;
}

// Sums of products and of their magnitudes. Rows of b in the innermost loop, which the compiler makes vectors of.
struct Sums {
  Sums(const Case& c, const std::vector<double>& a, const std::vector<double>& b)
      : value(static_cast<size_t>(numel(c.batch) * c.m * c.n)), magnitude(value) {
    for (int64_t row = 0; row < numel(c.batch) * c.m; row++)
      for (int64_t p = 0; p < c.k; p++) {
        const double x = a[static_cast<size_t>(row * c.k + p)];
        const double* y = b.data() + (row / c.m * c.k + p) * c.n;
        double *sums = value.data() + row * c.n, *magnitudes = magnitude.data() + row * c.n;
        for (int64_t j = 0; j < c.n; j++) {
          sums[j] += x * y[j];
          magnitudes[j] += std::fabs(x * y[j]);
        }
      }
  }
  std::vector<double> value, magnitude;
};

}  // namespace

std::vector<char> check(Stream& stream, const Ops& ops, const Case& c) {
  Random random(static_cast<uint64_t>(c.m * 7919 + c.n * 104729 + c.k));
  const Shape shape = with(c.batch, c.m, c.n);
  const DType mixed = c.wide ? DType::f32 : c.dtype;
  Any a(c.dtype, with(c.batch, c.m, c.k), c.a), b(c.dtype, with(c.batch, c.k, c.n), c.b), bias(mixed, {c.n});
  Padded out(mixed, shape, c.padding), residual(mixed, shape, c.padding);
  Padded preact(c.dtype, shape, c.padding), dact(c.dtype, shape, c.padding);
  for (Any* any : std::initializer_list<Any*>{&a, &b, &out, &residual, &preact, &bias}) fill(*any, random);
  fill(dact, random, -3, 3);

  const Sums sums(c, dense(a), dense(b));
  const int64_t batch = numel(c.batch), size = c.m * c.n;
  std::vector<double> expected(static_cast<size_t>(batch * size)), tolerance(expected), before(expected),
      tolerance_before(expected);
  for (int64_t e = 0; e < batch * size; e++) {
    const size_t at = static_cast<size_t>(e);
    double sum = sums.value[at], magnitude = sums.magnitude[at];
    if (c.bias) sum += bias.get(e % c.n), magnitude += std::fabs(bias.get(e % c.n));
    const double terms = static_cast<double>(c.k + 8);
    before[at] = sum;
    const double off_before = terms * kRounding * magnitude;
    tolerance_before[at] =
        off_before + rounding_of(c.dtype) * (std::fabs(sum) + off_before) + (c.dtype == DType::f16 ? 0x1p-25 : 0);
    const bool curved = c.activation != Activation::none && c.activation != Activation::relu;
    double value = c.dact ? sum * activation_slope(c.activation, dact.get(e)) : activate(c.activation, sum);
    double off = 1.13 * off_before + (curved ? kActivation * std::fabs(c.dact ? sum : value) + 1e-7 : 0);
    for (const double term : {c.residual ? residual.get(e) : 0, c.accumulate ? out.get(e) : 0}) {
      value += term;
      off += 4 * kRounding * (std::fabs(term) + std::fabs(value));
    }
    expected[at] = value;
    tolerance[at] = off + rounding_of(mixed) * (std::fabs(value) + off) + (mixed == DType::f16 ? 0x1p-25 : 0);
  }
  const std::vector<char> untouched = out.copy();

  ops.gemm(stream, out.view, nullptr, a.view, b.view, c.bias ? &bias.view : nullptr,
           c.residual ? &residual.view : nullptr, c.preact ? &preact.view : nullptr, c.dact ? &dact.view : nullptr,
           static_cast<Int>(c.activation), false, c.accumulate, false);
  synchronize(stream);

  const auto compare = [&](const char* name, const Any& got, const std::vector<double>& wanted,
                           const std::vector<double>& tolerances) {
    for (int64_t e = 0; e < batch * size; e++) {
      const size_t at = static_cast<size_t>(e);
      if (std::fabs(got.get(e) - wanted[at]) <= tolerances[at]) continue;
      return report(
          "%s[%lld] of %s, %lldx%lldx%lldx%lld, a %d, b %d, bias %d, residual %d, preact %d, dact %d, activation %d, "
          "accumulate %d: got %.9g, expected %.9g to %.2g",
          name, static_cast<long long>(e), name_of(c.dtype), static_cast<long long>(batch), static_cast<long long>(c.m),
          static_cast<long long>(c.n), static_cast<long long>(c.k), static_cast<int>(c.a), static_cast<int>(c.b),
          c.bias, c.residual, c.preact, c.dact, static_cast<int>(c.activation), c.accumulate, got.get(e), wanted[at],
          tolerances[at]);
    }
  };
  compare("out", out, expected, tolerance);
  if (c.preact) compare("preact", preact, before, tolerance_before);
  const std::vector<char> written = out.copy();
  const size_t element = size_of(mixed), row = static_cast<size_t>(c.n + c.padding) * element;
  for (size_t i = 0; i < written.size(); i++)
    if (c.padding && i % row >= static_cast<size_t>(c.n) * element && written[i] != untouched[i]) {
      report("out's padding was written at byte %zu", i);
      break;
    }
  return written;
}

}  // namespace heed::test::gemm
