// The activations that kernels fuse, and their slopes, in float64.
#pragma once
#include <cmath>

#include "core/params.h"

namespace heed::test {

inline double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
// Of the standard normal distribution.
inline double normal_cdf(double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); }
// (1 + tanh u) / 2 of GELU's tanh form.
inline double gelu_tanh_gate(double x) { return sigmoid(2 * std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)); }

inline double activate(Activation activation, double x) {
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

inline double activation_slope(Activation activation, double x) {
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

}  // namespace heed::test
