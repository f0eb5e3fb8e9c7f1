// Activations and their derivatives: ReLU, GELU (Hendrycks & Gimpel 2016) both exactly (x Φ(x)) and in GPT-2's tanh
// form, the sigmoid σ, and SiLU (x σ(x), Elfwing et al. 2017). gemm.cu and gated.cu fuse them; unary.cu applies them
// element by element.
//
// The tanh form is computed as x σ(2u), u = √(2/π)(x + 0.044715 x³). This is the same function without tanh's
// cancellation for negative x. Derivatives clamp x to the range in which they still change, so that no ∞ · 0 appears.
// The derivatives of σ and SiLU are computed from e^-|x| instead of 1 - σ, which would cancel.
#pragma once
#include "core/params.h"
#include "cuda/kernels/kernel.h"

#if HEED_DEVICE_CODE

namespace heed::cuda {

// A NaN stays NaN; fmaxf and fminf would drop it.
__device__ __forceinline__ float clamp(float x, float low, float high) { return x < low ? low : x > high ? high : x; }

__device__ __forceinline__ float relu(float x) { return x < 0.0f ? 0.0f : x; }
__device__ __forceinline__ float relu_grad(float x) { return x > 0.0f ? 1.0f : 0.0f; }

constexpr float kSqrt2OverPi = 0.7978845608028654f;
constexpr float kGeluCubic = 0.044715f;

// Returns e^-2u; the gate is σ(2u) = 1 / (1 + e^-2u).
__device__ __forceinline__ float gelu_tanh_exp(float x) {
  const float u = x * fmaf(kSqrt2OverPi * kGeluCubic, x * x, kSqrt2OverPi);
  return expf(-2.0f * u);
}

__device__ __forceinline__ float gelu_tanh(float x) {
  // Below -12 the result is 0 in f32, and -∞ · 0 must not be computed.
  const float c = x < -12.0f ? -12.0f : x;
  return c / (1.0f + gelu_tanh_exp(c));
}

__device__ __forceinline__ float gelu_tanh_grad(float x) {
  const float c = clamp(x, -10.0f, 10.0f);  // e^-2u stays finite
  const float e = gelu_tanh_exp(c);
  const float s = 1.0f / (1.0f + e);
  const float slope = fmaf(6.0f * kSqrt2OverPi * kGeluCubic, c * c, 2.0f * kSqrt2OverPi);
  return fmaf(c * (e * s * s), slope, s);  // e · s is 1 - s without cancellation
}

__device__ __forceinline__ float gelu_erf(float x) {
  const float c = x < -15.0f ? -15.0f : x;
  return 0.5f * c * (1.0f + erff(c * 0.70710678118654752f));
}

// Returns Φ(x) + x φ(x).
__device__ __forceinline__ float gelu_erf_grad(float x) {
  const float c = clamp(x, -15.0f, 15.0f);
  const float cdf = 0.5f * (1.0f + erff(c * 0.70710678118654752f));
  const float pdf = 0.3989422804014327f * expf(-0.5f * c * c);
  return fmaf(c, pdf, cdf);
}

__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }
// Returns σ'(x) = e / (1 + e)² with e = e^-|x|.
__device__ __forceinline__ float sigmoid_grad(float x) {
  const float e = expf(-fabsf(x)), d = 1.0f + e;
  return e / (d * d);
}

// SiLU and its derivative have reached their limits in f32 beyond ±104, and -∞ · 0 must not be computed.
__device__ __forceinline__ float silu(float x) {
  const float c = fmaxf(x, -104.0f);
  return x == x ? c * sigmoid(c) : x;
}
// Returns σ(x) + x σ'(x).
__device__ __forceinline__ float silu_grad(float x) {
  const float c = fminf(fmaxf(x, -104.0f), 104.0f);
  const float e = expf(-fabsf(c)), r = 1.0f / (1.0f + e);
  return x == x ? fmaf(c * e * r, r, c > 0 ? r : e * r) : x;
}

// Calls f(value, slope) with the two functions of the activation.
template <class F>
__device__ __forceinline__ void with_activation(Activation activation, const F& f) {
  switch (activation) {
    case Activation::none:
      return f([](float x) { return x; }, [](float) { return 1.0f; });
    case Activation::relu:
      return f([](float x) { return relu(x); }, [](float x) { return relu_grad(x); });
    case Activation::gelu_tanh:
      return f([](float x) { return gelu_tanh(x); }, [](float x) { return gelu_tanh_grad(x); });
    case Activation::gelu_erf:
      return f([](float x) { return gelu_erf(x); }, [](float x) { return gelu_erf_grad(x); });
    case Activation::silu:
      return f([](float x) { return silu(x); }, [](float x) { return silu_grad(x); });
    case Activation::sigmoid:
      return f([](float x) { return sigmoid(x); }, [](float x) { return sigmoid_grad(x); });
  }
}

}  // namespace heed::cuda

#endif
