// Compares the vector activations of activation.h with the C library's functions in double. The tests call them through
// gemm with K = 1: 1 · x goes through the activation unchanged, and 1 through its derivative at x.
//
// The tolerance is in units of max(|f|, floor): the error of erf is 2^-23, and that of e^x and division a few 2^-24. In
// the tanh form the rounding of 2u, with |2u| < 90 if the result is not 0, causes a relative error of the result of up
// to 8 · 2^-24 · |2u|.
#include <algorithm>
#include <cmath>

#include "check.h"

namespace heed::test {
namespace {

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
// The distribution function of the standard normal distribution.
double normal_cdf(double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); }
// Returns (1 + tanh u) / 2 of GELU's tanh form.
double gelu_tanh_gate(double x) { return sigmoid(2 * std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)); }

double activate(Activation activation, double x) {
  switch (activation) {
    case Activation::none:
      return x;
    case Activation::relu:
      return x > 0 ? x : 0;
    case Activation::gelu_tanh:
      return x * gelu_tanh_gate(x);
    case Activation::gelu_erf:
      return x * normal_cdf(x);
    case Activation::silu:
      return x * sigmoid(x);
    case Activation::sigmoid:
      return sigmoid(x);
  }
  return NAN;
}

double activation_slope(Activation activation, double x) {
  const double s = gelu_tanh_gate(x);
  switch (activation) {
    case Activation::none:
      return 1;
    case Activation::relu:
      return x > 0;
    case Activation::gelu_tanh:
      return s + x * s * (1 - s) * 2 * std::sqrt(2 / M_PI) * (1 + 3 * 0.044715 * x * x);
    case Activation::gelu_erf:
      return normal_cdf(x) + x * std::exp(-x * x / 2) / std::sqrt(2 * M_PI);
    case Activation::silu:
      return sigmoid(x) + x * sigmoid(x) * sigmoid(-x);
    case Activation::sigmoid:
      return sigmoid(x) * sigmoid(-x);
  }
  return NAN;
}

std::vector<float> apply(Stream& stream, const Ops& ops, const std::vector<float>& inputs, Activation activation,
                         bool slope) {
  const auto n = static_cast<int64_t>(inputs.size());
  Array<float> one({1, 1}), x({1, n}), ones({1, n}), out({1, n});
  one[0] = 1;
  std::copy(inputs.begin(), inputs.end(), x.values.get());
  std::fill_n(ones.values.get(), n, 1.0f);
  ops.gemm(stream, out, nullptr, one, slope ? ones : x, nullptr, nullptr, nullptr, slope ? &x : nullptr,
           static_cast<Int>(activation), false, false, false, false, false);
  synchronize(stream);
  return {out.values.get(), out.values.get() + n};
}

void check(Stream& stream, const Ops& ops, Activation activation, double value_tolerance, double slope_tolerance) {
  std::vector<float> inputs;
  for (int i = -60000; i <= 60000; i++) inputs.push_back(static_cast<float>(i) * 0.00025f);
  for (const float x : {0.0f, -0.0f, 1e-40f, -1e-40f, 1e-10f, -1e-10f, 1e10f, -1e10f, 3e38f, -3e38f})
    inputs.push_back(x);
  for (const bool slope : {false, true}) {
    const std::vector<float> got = apply(stream, ops, inputs, activation, slope);
    std::vector<double> expected;
    for (const float x : inputs) {
      const double value = activate(activation, static_cast<double>(x)),
                   derivative = activation_slope(activation, static_cast<double>(x));
      expected.push_back(std::isfinite(value) && std::isfinite(derivative) ? (slope ? derivative : value)
                         : slope                                           ? (x > 0)
                                                                           : (x > 0 ? static_cast<double>(x) : 0));
    }
    const double tolerance = slope ? slope_tolerance : value_tolerance;
    expect_near(slope ? "slope" : "value", got.data(), expected.data(), static_cast<int64_t>(inputs.size()), tolerance,
                tolerance);
  }
}

TEST(activation_relu) { check(stream, ops, Activation::relu, 0, 0); }
TEST(activation_gelu_erf) { check(stream, ops, Activation::gelu_erf, 3e-7, 3e-7); }
TEST(activation_gelu_tanh) { check(stream, ops, Activation::gelu_tanh, 3e-7, 1e-6); }
TEST(activation_silu) { check(stream, ops, Activation::silu, 4e-7, 6e-7); }
TEST(activation_sigmoid) { check(stream, ops, Activation::sigmoid, 3e-7, 6e-7); }

TEST(activation_limits) {
  for (const auto activation : {Activation::relu, Activation::gelu_tanh, Activation::gelu_erf, Activation::silu}) {
    const std::vector<float> inputs{INFINITY, -INFINITY, NAN};
    const auto value = apply(stream, ops, inputs, activation, false),
               slope = apply(stream, ops, inputs, activation, true);
    EXPECT(value[0] == INFINITY && value[1] == 0 && std::isnan(value[2]));
    EXPECT(slope[0] == 1 && std::fabs(slope[1]) < 1e-30f);
    EXPECT(activation == Activation::relu ? slope[2] == 0 : std::isnan(slope[2]));
  }
}

}  // namespace
}  // namespace heed::test
