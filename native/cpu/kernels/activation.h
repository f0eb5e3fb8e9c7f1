// Activations and their derivatives on vectors: ReLU, GELU (Hendrycks & Gimpel 2016) both exactly (x Φ(x)) and in
// GPT-2's tanh form, the sigmoid σ, and SiLU (x σ(x), Elfwing et al. 2017). gemm.cc and gated.cc fuse them; unary.cc
// applies them element by element.
//
// The tanh form is computed as x σ(2u), u = √(2/π)(x + 0.044715 x³). This is the same function without tanh's
// cancellation for negative x. Derivatives clamp x to the range in which they still change, so that no ∞ · 0 appears.
// The derivatives of σ and SiLU are computed from e^-|x| instead of 1 - σ, which would cancel.
#pragma once
#include "core/params.h"
#include "cpu/kernels/kernel.h"

namespace heed::cpu::HEED_ISA {
namespace {

inline vf relu(vf x) { return vmax(set1(0.0f), x); }  // a NaN stays NaN
inline vf relu_grad(vf x) { return select(x > set1(0.0f), set1(1.0f), set1(0.0f)); }

// erf to about 1 ulp: an odd polynomial below 1, and 1 - e^q(x) above, q fitted to log erfc.
inline vf verf(vf x) {
  const vf a = vabs(x), s = a * a;
  vf p = set1(7.882497448e-5f);
  p = fma(p, s, set1(-8.018855006e-4f));
  p = fma(p, s, set1(5.189312156e-3f));
  p = fma(p, s, set1(-2.685432881e-2f));
  p = fma(p, s, set1(1.128359735e-1f));
  p = fma(p, s, set1(-3.761262596e-1f));
  p = fma(p, s, set1(1.283791671e-1f));  // 2/√π - 1: the 1 is added separately, with one rounding
  const vf small = fma(p, a, a);
  const vf t = vmin(a, set1(4.0f));
  vf q = set1(-2.178802242e-5f);
  q = fma(q, t, set1(4.425816005e-4f));
  q = fma(q, t, set1(-4.210990854e-3f));
  q = fma(q, t, set1(2.522631176e-2f));
  q = fma(q, t, set1(-1.084483713e-1f));
  q = fma(q, t, set1(-6.331909895e-1f));
  q = fma(q, t, set1(-1.129593730f));
  q = fma(q, t, set1(1.914383320e-4f));
  const vf large = set1(1.0f) - vexp(q);
  const vf magnitude = select(a < set1(1.0f), small, large);
  const vf y = (vf)((vi)magnitude | ((vi)x & set1i(static_cast<int32_t>(0x80000000u))));
  return select(x == x, y, x);
}

constexpr float kSqrt2OverPi = 0.7978845608028654f;
constexpr float kGeluCubic = 0.044715f;

// Returns e^-2u; the gate is σ(2u) = 1 / (1 + e^-2u).
inline vf gelu_tanh_exp(vf x) {
  const vf u = x * fma(set1(kSqrt2OverPi * kGeluCubic), x * x, set1(kSqrt2OverPi));
  return vexp(set1(-2.0f) * u);
}

inline vf gelu_tanh(vf x) {
  // Below -12 the result is 0 in f32, and -∞ · 0 must not be computed.
  const vf c = vmax(x, set1(-12.0f));
  return select(x == x, c / (set1(1.0f) + gelu_tanh_exp(c)), x);
}

inline vf gelu_tanh_grad(vf x) {
  const vf c = vmin(vmax(x, set1(-10.0f)), set1(10.0f));  // e^-2u stays finite
  const vf e = gelu_tanh_exp(c);
  const vf s = set1(1.0f) / (set1(1.0f) + e);
  const vf slope = fma(set1(6.0f * kSqrt2OverPi * kGeluCubic), c * c, set1(2.0f * kSqrt2OverPi));
  return select(x == x, fma(c * (e * s * s), slope, s), x);  // e · s is 1 - s without cancellation
}

inline vf gelu_erf(vf x) {
  const vf c = vmax(x, set1(-15.0f));
  return select(x == x, set1(0.5f) * c * (set1(1.0f) + verf(c * set1(0.70710678118654752f))), x);
}

// Returns Φ(x) + x φ(x).
inline vf gelu_erf_grad(vf x) {
  const vf c = vmin(vmax(x, set1(-15.0f)), set1(15.0f));
  const vf cdf = set1(0.5f) * (set1(1.0f) + verf(c * set1(0.70710678118654752f)));
  const vf pdf = set1(0.3989422804014327f) * vexp(set1(-0.5f) * c * c);
  return select(x == x, fma(c, pdf, cdf), x);
}

inline vf sigmoid(vf x) { return set1(1.0f) / (set1(1.0f) + vexp(-x)); }

// Returns σ'(x) = e / (1 + e)² with e = e^-|x|.
inline vf sigmoid_grad(vf x) {
  const vf e = vexp(-vabs(x)), d = set1(1.0f) + e;
  return e / (d * d);
}

// SiLU and its derivative have reached their limits in f32 beyond ±104, and -∞ · 0 must not be computed.
inline vf silu(vf x) {
  const vf c = vmax(x, set1(-104.0f));
  return select(x == x, c * sigmoid(c), x);
}
// Returns σ(x) + x σ'(x).
inline vf silu_grad(vf x) {
  const vf c = vmin(vmax(x, set1(-104.0f)), set1(104.0f));
  const vf e = vexp(-vabs(c)), r = set1(1.0f) / (set1(1.0f) + e);
  const vf s = select(c > vf{}, r, e * r);
  return select(x == x, fma(c * e * r, r, s), x);
}

template <Activation activation>
inline vf activate(vf x) {
  if constexpr (activation == Activation::relu) return relu(x);
  if constexpr (activation == Activation::gelu_tanh) return gelu_tanh(x);
  if constexpr (activation == Activation::gelu_erf) return gelu_erf(x);
  if constexpr (activation == Activation::silu) return silu(x);
  if constexpr (activation == Activation::sigmoid) return sigmoid(x);
  return x;
}

template <Activation activation>
inline vf activate_grad(vf x) {
  if constexpr (activation == Activation::relu) return relu_grad(x);
  if constexpr (activation == Activation::gelu_tanh) return gelu_tanh_grad(x);
  if constexpr (activation == Activation::gelu_erf) return gelu_erf_grad(x);
  if constexpr (activation == Activation::silu) return silu_grad(x);
  if constexpr (activation == Activation::sigmoid) return sigmoid_grad(x);
  return set1(1.0f);
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
