// unary, unary_backward and binary against double, every kind in every layout.
//
// Tolerances count roundings: `units` of 2^-24, relative to the result, that the kernel's formula may be off by (an exp
// is 2.1, a tanh 2.7, a C library function 2, every other operation 1), and of the size of 1 where a sum cancels.
#include <algorithm>

#include "activations.h"
#include "core/kinds.h"
#include "views.h"

namespace heed::test {
namespace {

constexpr double kRounding = 0x1p-24;
const Shape kShapes[] = {{}, {1}, {2, 3}, {17}, {31, 33}, {2, 63, 65}, {257}};

template <Activation kActivation>
double value_of(double x) {
  return activate(kActivation, x);
}
template <Activation kActivation>
double slope_of(double x) {
  return activation_slope(kActivation, x);
}

struct UnaryCase {
  UnaryKind kind;
  float low, high;
  double (*value)(double);
  double units, absolute;
  double (*slope)(double);
  double slope_units, slope_absolute;
};

// gelu_tanh: σ(2u) multiplies u's own four roundings by |2u| <= 25 for |x| <= 6.
const UnaryCase kUnary[] = {
    {UnaryKind::neg, -3, 3, [](double x) { return -x; }, 0, 0, [](double) { return -1.0; }, 0, 0},
    {UnaryKind::exp, -20, 20, [](double x) { return std::exp(x); }, 2.1, 0, [](double x) { return std::exp(x); }, 2.1,
     0},
    {UnaryKind::log, 1e-3f, 20, [](double x) { return std::log(x); }, 2, 0, [](double x) { return 1 / x; }, 1, 0},
    {UnaryKind::sqrt, 0, 9, [](double x) { return std::sqrt(x); }, 1, 0, [](double x) { return 0.5 / std::sqrt(x); }, 2,
     0},
    {UnaryKind::rsqrt, 0.01f, 9, [](double x) { return 1 / std::sqrt(x); }, 2, 0,
     [](double x) { return -0.5 / (x * std::sqrt(x)); }, 3, 0},
    {UnaryKind::square, -3, 3, [](double x) { return x * x; }, 1, 0, [](double x) { return 2 * x; }, 0, 0},
    {UnaryKind::abs, -3, 3, [](double x) { return std::fabs(x); }, 0, 0, [](double x) { return x < 0 ? -1.0 : 1.0; }, 0,
     0},
    {UnaryKind::tanh, -12, 12, [](double x) { return std::tanh(x); }, 2.7, 0,
     [](double x) { return 1 / (std::cosh(x) * std::cosh(x)); }, 9, 0},
    {UnaryKind::sigmoid, -30, 30, value_of<Activation::sigmoid>, 4.1, 0, slope_of<Activation::sigmoid>, 9, 0},
    {UnaryKind::relu, -3, 3, value_of<Activation::relu>, 0, 0, slope_of<Activation::relu>, 0, 0},
    {UnaryKind::gelu_tanh, -6, 6, value_of<Activation::gelu_tanh>, 106, 0, slope_of<Activation::gelu_tanh>, 12, 12},
    {UnaryKind::gelu_erf, -6, 6, value_of<Activation::gelu_erf>, 5, 12, slope_of<Activation::gelu_erf>, 8, 8},
    {UnaryKind::silu, -20, 20, value_of<Activation::silu>, 5.1, 0, slope_of<Activation::silu>, 6, 8},
    {UnaryKind::sin, -20, 20, [](double x) { return std::sin(x); }, 2, 0, [](double x) { return std::cos(x); }, 2, 0},
    {UnaryKind::cos, -20, 20, [](double x) { return std::cos(x); }, 2, 0, [](double x) { return -std::sin(x); }, 2, 0},
    {UnaryKind::reciprocal, 0.01f, 9, [](double x) { return 1 / x; }, 1, 0, [](double x) { return -1 / (x * x); }, 3,
     0},
    {UnaryKind::elu_plus_one, -20, 3, [](double x) { return x > 0 ? x + 1 : std::exp(x); }, 2.1, 0,
     [](double x) { return x > 0 ? 1.0 : std::exp(x); }, 2.1, 0},
};

Int number(UnaryKind kind) { return static_cast<Int>(kind); }
Int number(BinaryKind kind) { return static_cast<Int>(kind); }

void copy_memory(Laid<float>& to, const Laid<float>& from) {
  for (int64_t i = 0; i < from.memory.size; i++) to.memory[i] = from.memory[i];
}

TEST(unary_every_kind_and_layout) {
  Random random(1);
  for (const UnaryCase& c : kUnary)
    for (const Shape& shape : kShapes)
      for (const Layout out_layout : kOutLayouts)
        for (const Layout in_layout : kInLayouts) {
          Laid<float> inp(shape, in_layout), out(shape, out_layout);
          random.fill(inp.memory, c.low, c.high);
          ops.unary(stream, out, inp, number(c.kind));
          synchronize(stream);
          EXPECT(out.gaps_are(0));
          for (int64_t i = 0; i < out.view.numel(); i++) {
            const double x = static_cast<double>(inp.at(i)), expected = c.value(x),
                         got = static_cast<double>(out.at(i));
            if (std::fabs(got - expected) <= kRounding * (c.units * std::fabs(expected) + c.absolute)) continue;
            report("kind %d: f(%.9g) is %.9g, expected %.9g", static_cast<int>(c.kind), x, got, expected);
            break;
          }
        }
}

TEST(unary_backward_every_kind_and_layout) {
  Random random(2);
  for (const UnaryCase& c : kUnary)
    for (const Shape& shape : kShapes)
      for (const Layout layout : kOutLayouts)
        for (const Layout in_layout : kInLayouts)
          for (const bool accumulate : {false, true}) {
            Laid<float> inp(shape, in_layout), dout(shape, layout), dinp(shape, layout), before(shape, layout);
            random.fill(inp.memory, c.low, c.high);
            random.fill(dout.memory);
            random.fill(dinp.memory);
            copy_memory(before, dinp);
            ops.unary_backward(stream, dinp, dout, inp, number(c.kind), accumulate);
            synchronize(stream);
            for (int64_t i = 0; i < dinp.view.numel(); i++) {
              const double x = static_cast<double>(inp.at(i)), d = static_cast<double>(dout.at(i)), slope = c.slope(x);
              const double expected = d * slope + (accumulate ? static_cast<double>(before.at(i)) : 0);
              const double tolerance = std::fabs(d) * ((c.slope_units + 1) * std::fabs(slope) + c.slope_absolute) +
                                       (accumulate ? std::fabs(expected) : 0);
              const double got = static_cast<double>(dinp.at(i));
              if (std::fabs(got - expected) <= kRounding * tolerance) continue;
              report("kind %d: f'(%.9g) · %.9g is %.9g, expected %.9g", static_cast<int>(c.kind), x, d, got, expected);
              break;
            }
          }
}

TEST(unary_special_values) {
  struct Special {
    UnaryKind kind;
    float x, value, slope;
  };
  const float inf = HUGE_VALF;
  const Special specials[] = {
      {UnaryKind::exp, -inf, 0, 0},          {UnaryKind::exp, inf, inf, inf},
      {UnaryKind::log, 0, -inf, inf},        {UnaryKind::log, inf, inf, 0},
      {UnaryKind::log, -1, NAN, -1},         {UnaryKind::sqrt, 0, 0, inf},
      {UnaryKind::sqrt, -1, NAN, NAN},       {UnaryKind::rsqrt, 0, inf, -inf},
      {UnaryKind::rsqrt, inf, 0, 0},         {UnaryKind::abs, 0, 0, 0},
      {UnaryKind::abs, -inf, inf, -1},       {UnaryKind::tanh, inf, 1, 0},
      {UnaryKind::tanh, -inf, -1, 0},        {UnaryKind::sigmoid, inf, 1, 0},
      {UnaryKind::sigmoid, -inf, 0, 0},      {UnaryKind::relu, 0, 0, 0},
      {UnaryKind::relu, -inf, 0, 0},         {UnaryKind::relu, inf, inf, 1},
      {UnaryKind::gelu_tanh, inf, inf, 1},   {UnaryKind::gelu_tanh, -inf, 0, 0},
      {UnaryKind::gelu_erf, inf, inf, 1},    {UnaryKind::gelu_erf, -inf, 0, 0},
      {UnaryKind::silu, inf, inf, 1},        {UnaryKind::silu, -inf, 0, 0},
      {UnaryKind::reciprocal, 0, inf, -inf}, {UnaryKind::reciprocal, inf, 0, 0},
      {UnaryKind::cos, inf, NAN, NAN},       {UnaryKind::elu_plus_one, -inf, 0, 0},
      {UnaryKind::elu_plus_one, 0, 1, 1},
  };
  // A slope that is held at the end of the range where it changes may be a little more than its limit, 0.
  const auto same = [](float a, float b) {
    return a == b || (std::isnan(a) && std::isnan(b)) || std::fabs(a - b) < 1e-35f;
  };
  Laid<float> inp({1}), one({1}), out({1}), dinp({1});
  one.at(0) = 1;
  for (const Special& s : specials) {
    inp.at(0) = s.x;
    ops.unary(stream, out, inp, number(s.kind));
    ops.unary_backward(stream, dinp, one, inp, number(s.kind), false);
    synchronize(stream);
    if (!same(out.at(0), s.value) || !same(dinp.at(0), s.slope))
      report("kind %d at %g: value %g and slope %g, expected %g and %g", static_cast<int>(s.kind),
             static_cast<double>(s.x), static_cast<double>(out.at(0)), static_cast<double>(dinp.at(0)),
             static_cast<double>(s.value), static_cast<double>(s.slope));
  }
  for (Int kind = 0; kind < kUnaryKinds; kind++) {
    inp.at(0) = NAN;
    ops.unary(stream, out, inp, kind);
    synchronize(stream);
    if (!std::isnan(out.at(0))) report("kind %d of NaN is %g", static_cast<int>(kind), static_cast<double>(out.at(0)));
  }
}

double binary_reference(BinaryKind kind, double a, double b) {
  switch (kind) {
    case BinaryKind::add:
      return a + b;
    case BinaryKind::sub:
      return a - b;
    case BinaryKind::mul:
      return a * b;
    case BinaryKind::div:
      return a / b;
    case BinaryKind::maximum:
      return std::isnan(a) || std::isnan(b) ? NAN : std::max(a, b);
    case BinaryKind::minimum:
      return std::isnan(a) || std::isnan(b) ? NAN : std::min(a, b);
    case BinaryKind::pow:
      return std::pow(a, b);
    case BinaryKind::equal:
      return a == b;
    case BinaryKind::greater:
      return a > b;
    case BinaryKind::less:
      return a < b;
  }
  return 0;
}

// All but pow are rounded once, which rounding the double result does as well (it has more than twice the digits).
bool matches(BinaryKind kind, float got, double expected) {
  if (std::isnan(expected)) return std::isnan(got);
  if (kind == BinaryKind::pow)
    return std::fabs(static_cast<double>(got) - expected) <= 2 * kRounding * std::fabs(expected);
  return got == static_cast<float>(expected);
}

TEST(binary_every_kind_and_layout) {
  Random random(3);
  for (Int kind = 0; kind < kBinaryKinds; kind++)
    for (const Shape& shape : kShapes)
      for (const Layout out_layout : kOutLayouts)
        for (const Layout a_layout : kInLayouts)
          for (const Layout b_layout : kInLayouts) {
            Laid<float> a(shape, a_layout), b(shape, b_layout), out(shape, out_layout);
            // Few distinct values, so that equal ones meet.
            for (int64_t i = 0; i < a.memory.size; i++) a.memory[i] = static_cast<float>(1 + random.below(20)) / 7;
            for (int64_t i = 0; i < b.memory.size; i++) b.memory[i] = static_cast<float>(1 + random.below(20)) / 7;
            ops.binary(stream, out, a, b, kind, false);
            synchronize(stream);
            EXPECT(out.gaps_are(0));
            for (int64_t i = 0; i < out.view.numel(); i++) {
              const BinaryKind named = static_cast<BinaryKind>(kind);
              const double expected =
                  binary_reference(named, static_cast<double>(a.at(i)), static_cast<double>(b.at(i)));
              if (matches(named, out.at(i), expected)) continue;
              report("kind %d of %.9g and %.9g is %.9g, expected %.9g", static_cast<int>(kind),
                     static_cast<double>(a.at(i)), static_cast<double>(b.at(i)), static_cast<double>(out.at(i)),
                     expected);
              break;
            }
          }
}

TEST(binary_accumulates) {
  Random random(4);
  for (Int kind = 0; kind < kBinaryKinds; kind++)
    for (const Shape& shape : kShapes)
      for (const Layout out_layout : kOutLayouts)
        for (const Layout b_layout : kInLayouts) {
          Laid<float> a(shape), b(shape, b_layout), out(shape, out_layout), added(shape, out_layout),
              before(shape, out_layout);
          random.fill(a.memory, 0, 2);
          random.fill(b.memory);
          random.fill(added.memory);
          copy_memory(before, added);
          ops.binary(stream, out, a, b, kind, false);
          ops.binary(stream, added, a, b, kind, true);
          synchronize(stream);
          bool right = true;
          for (int64_t i = 0; i < out.view.numel(); i++) right = right && added.at(i) == before.at(i) + out.at(i);
          EXPECT(right);
        }
}

TEST(binary_special_values) {
  const float values[] = {0.0f, -0.0f, 1, -1, HUGE_VALF, -HUGE_VALF, NAN, 0x1p-149f, 3e38f};
  constexpr int64_t n = sizeof values / sizeof *values;
  Laid<float> a({n, n}), b({n, n}), out({n, n});
  for (int64_t i = 0; i < n * n; i++) a.at(i) = values[i / n], b.at(i) = values[i % n];
  for (Int kind = 0; kind < kBinaryKinds; kind++) {
    ops.binary(stream, out, a, b, kind, false);
    synchronize(stream);
    for (int64_t i = 0; i < n * n; i++) {
      const BinaryKind named = static_cast<BinaryKind>(kind);
      const double expected = named == BinaryKind::pow
                                  ? static_cast<double>(std::pow(a.at(i), b.at(i)))
                                  : binary_reference(named, static_cast<double>(a.at(i)), static_cast<double>(b.at(i)));
      if (std::isinf(expected) && out.at(i) == static_cast<float>(expected)) continue;
      if (!matches(named, out.at(i), expected))
        report("kind %d of %g and %g is %g, expected %g", static_cast<int>(kind), static_cast<double>(a.at(i)),
               static_cast<double>(b.at(i)), static_cast<double>(out.at(i)), expected);
    }
  }
}

TEST(elementwise_in_place) {
  Random random(5);
  Laid<float> a({33, 65}), b({33, 65}), sum({33, 65});
  random.fill(a.memory);
  random.fill(b.memory);
  ops.binary(stream, sum, a, b, number(BinaryKind::add), false);
  ops.binary(stream, a, a, b, number(BinaryKind::add), false);
  ops.unary(stream, sum, sum, number(UnaryKind::tanh));
  ops.unary(stream, b, a, number(UnaryKind::tanh));
  synchronize(stream);
  for (int64_t i = 0; i < b.memory.size; i++) EXPECT(sum.at(i) == b.at(i));
}

// More than one chunk, whose ends fall inside rows.
TEST(elementwise_large_matches_small_pieces) {
  Random random(6);
  constexpr int64_t rows = 701, columns = 131;
  Laid<float> a({rows, columns}), row({rows, columns}, Layout::repeated_first), whole({rows, columns}),
      piece({1, columns});
  random.fill(a.memory);
  random.fill(row.memory);
  with_thread_counts([&] {
    ops.binary(stream, whole, a, row, number(BinaryKind::mul), false);
    ops.unary(stream, whole, whole, number(UnaryKind::gelu_tanh));
    synchronize(stream);
    for (int64_t r = 0; r < rows; r += 50) {
      TensorView from = a.view, factor = row.view;
      from.shape[0] = factor.shape[0] = 1;
      from.data = from.f32() + r * columns;
      ops.binary(stream, piece, from, factor, number(BinaryKind::mul), false);
      ops.unary(stream, piece, piece, number(UnaryKind::gelu_tanh));
      synchronize(stream);
      for (int64_t c = 0; c < columns; c++) EXPECT(piece.at(c) == whole.at(r * columns + c));
    }
  });
}

TEST(elementwise_empty) {
  const Laid<float> empty({3, 0, 2});
  ops.unary(stream, empty, empty, 0);
  ops.unary_backward(stream, empty, empty, empty, 0, true);
  ops.binary(stream, empty, empty, empty, 0, true);
  EXPECT(synchronize(stream).empty());
}

TEST(elementwise_errors) {
  const Laid<float> out({2, 3}), other({3, 2}), repeated({2, 3}, Layout::repeated_last);
  const Laid<int32_t> ids({2, 3});
  const auto unary = [&](const TensorView& to, const TensorView& from, Int kind) {
    return error_of([&] { ops.unary(stream, to, from, kind); });
  };
  EXPECT(unary(out, other, 0) == "ERR_SHAPE: unary: expected inp of shape [2, 3], got [3, 2]");
  EXPECT(unary(out, ids, 0) == "ERR_DTYPE: unary: expected inp of dtype f32, got i32");
  EXPECT(unary(ids, out, 0) == "ERR_DTYPE: unary: expected out of dtype f32, bf16 or f16, got i32");
  EXPECT(unary(repeated, out, 0) ==
         "ERR_SHAPE: unary: expected out without broadcast dimensions, got a stride of 0 in shape [2, 3]");
  EXPECT(unary(out, out, 17) == "ERR_ARGUMENT: unary: expected kind from 0 to 16, got 17");
  EXPECT(unary(out, out, -1) == "ERR_ARGUMENT: unary: expected kind from 0 to 16, got -1");
  const auto backward = [&](const TensorView& to, const TensorView& dout, const TensorView& inp, Int kind) {
    return error_of([&] { ops.unary_backward(stream, to, dout, inp, kind, false); });
  };
  EXPECT(backward(out, other, out, 0) == "ERR_SHAPE: unary_backward: expected dout of shape [2, 3], got [3, 2]");
  EXPECT(backward(out, out, other, 0) == "ERR_SHAPE: unary_backward: expected inp of shape [2, 3], got [3, 2]");
  EXPECT(backward(ids, out, out, 0) == "ERR_DTYPE: unary_backward: expected dinp of dtype f32, bf16 or f16, got i32");
  EXPECT(backward(repeated, out, out, 0) ==
         "ERR_SHAPE: unary_backward: expected dinp without broadcast dimensions, got a stride of 0 in shape [2, 3]");
  EXPECT(backward(out, out, out, 99) == "ERR_ARGUMENT: unary_backward: expected kind from 0 to 16, got 99");
  const auto binary = [&](const TensorView& to, const TensorView& a, const TensorView& b, Int kind) {
    return error_of([&] { ops.binary(stream, to, a, b, kind, false); });
  };
  EXPECT(binary(out, other, out, 0) == "ERR_SHAPE: binary: expected a of shape [2, 3], got [3, 2]");
  EXPECT(binary(out, out, other, 0) == "ERR_SHAPE: binary: expected b of shape [2, 3], got [3, 2]");
  EXPECT(binary(out, out, ids, 0) == "ERR_DTYPE: binary: expected b of dtype f32, got i32");
  EXPECT(binary(repeated, out, out, 0) ==
         "ERR_SHAPE: binary: expected out without broadcast dimensions, got a stride of 0 in shape [2, 3]");
  EXPECT(binary(out, out, out, 10) == "ERR_ARGUMENT: binary: expected kind from 0 to 9, got 10");
}

}  // namespace
}  // namespace heed::test
