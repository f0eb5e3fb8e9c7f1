// out = f(inp), and dinp = dout · f'(inp), written or, with `accumulate`, added. They take one float dtype, equal
// shapes and any strides; results are computed in f32 and rounded once.
//
// kinds.h lists f. Backward needs the forward's input. The kind is a branch that all threads take alike, once for a
// thread's vector of elements. The kinds from erf on are rarer: they are in one function that is called for each
// element, so that a kernel has one copy of each.
#include "core/checks/elementwise.h"
#include "core/kinds.h"
#include "cuda/kernels/activation.h"
#include "cuda/kernels/strided.h"

namespace heed::cuda {

struct UnaryParams {
  Elements<2> elements;
  void* out;
  const void* inp;
  UnaryKind kind;
};

struct UnaryBackwardParams {
  Elements<3> elements;
  void* dinp;
  const void *dout, *inp;
  UnaryKind kind;
  int32_t accumulate;
};

#if HEED_DEVICE_CODE

// Library functions with a slow path for large arguments: a kernel has only one copy of each.
__device__ __noinline__ float sine(float x) { return sinf(x); }
__device__ __noinline__ float cosine(float x) { return cosf(x); }

// selu of Klambauer et al. 2017, "Self-Normalizing Neural Networks".
constexpr float kSeluScale = 1.0507009873554805f, kSeluBelow = 1.7580993408473769f;

__device__ __noinline__ float rare_value(float x, UnaryKind kind) {
  switch (kind) {
    case UnaryKind::erf:
      return erff(x);
    case UnaryKind::tan:
      return tanf(x);
    case UnaryKind::asin:
      return asinf(x);
    case UnaryKind::acos:
      return acosf(x);
    case UnaryKind::atan:
      return atanf(x);
    case UnaryKind::sinh:
      return sinhf(x);
    case UnaryKind::cosh:
      return coshf(x);
    case UnaryKind::asinh:
      return asinhf(x);
    case UnaryKind::acosh:
      return acoshf(x);
    case UnaryKind::atanh:
      return atanhf(x);
    case UnaryKind::expm1:
      return expm1f(x);
    case UnaryKind::log1p:
      return log1pf(x);
    case UnaryKind::softplus:
      return (x < 0 ? 0.0f : x) + log1pf(expf(-fabsf(x)));
    case UnaryKind::elu:
      return x > 0 ? x : expm1f(x);
    case UnaryKind::selu:
      return x > 0 ? kSeluScale * x : kSeluBelow * expm1f(x);
    case UnaryKind::relu6:
      return x < 0 ? 0.0f : x > 6 ? 6.0f : x;
    case UnaryKind::round:
      return rintf(x);
    case UnaryKind::floor:
      return floorf(x);
    case UnaryKind::ceil:
      return ceilf(x);
    case UnaryKind::sign:
      return x > 0 ? 1.0f : x < 0 ? -1.0f : 0.0f;
    case UnaryKind::is_nan:
      return x != x ? 1.0f : 0.0f;
    case UnaryKind::is_inf:
      return fabsf(x) == INFINITY ? 1.0f : 0.0f;
    default:  // is_finite
      return fabsf(x) < INFINITY ? 1.0f : 0.0f;
  }
}

__device__ __noinline__ float rare_slope(float x, UnaryKind kind) {
  switch (kind) {
    case UnaryKind::erf:
      return 1.1283791670955126f * expf(-x * x);  // 2/√π
    case UnaryKind::tan: {
      const float y = tanf(x);
      return fmaf(y, y, 1.0f);
    }
    case UnaryKind::asin:
      return 1.0f / sqrtf((1.0f - x) * (1.0f + x));
    case UnaryKind::acos:
      return -1.0f / sqrtf((1.0f - x) * (1.0f + x));
    case UnaryKind::atan:
      return 1.0f / fmaf(x, x, 1.0f);
    case UnaryKind::sinh:
      return coshf(x);
    case UnaryKind::cosh:
      return sinhf(x);
    case UnaryKind::asinh:
      return 1.0f / sqrtf(fmaf(x, x, 1.0f));
    case UnaryKind::acosh:
      return 1.0f / sqrtf((x - 1.0f) * (x + 1.0f));
    case UnaryKind::atanh:
      return 1.0f / ((1.0f - x) * (1.0f + x));
    case UnaryKind::expm1:
      return expf(x);
    case UnaryKind::log1p:
      return 1.0f / (1.0f + x);
    case UnaryKind::softplus:
      return sigmoid(x);
    case UnaryKind::elu:
      return x > 0 ? 1.0f : expf(x);
    case UnaryKind::selu:
      return x > 0 ? kSeluScale : kSeluBelow * expf(x);
    case UnaryKind::relu6:
      return x > 0 && x < 6 ? 1.0f : 0.0f;
    default:  // the roundings and the tests
      return 0.0f;
  }
}

__device__ __forceinline__ float abs_slope(float x) {
  return x > 0 ? 1.0f : x < 0 ? -1.0f : x * 0.0f;  // 0 at 0, NaN at NaN
}

template <int V, class F>
__device__ __forceinline__ void each(float (&x)[V], F f) {
#pragma unroll
  for (int k = 0; k < V; k++) x[k] = f(x[k]);
}

template <int V>
__device__ __forceinline__ void apply_value(float (&x)[V], UnaryKind kind) {
  switch (kind) {
    case UnaryKind::neg:
      return each(x, [](float v) { return -v; });
    case UnaryKind::exp:
      return each(x, [](float v) { return expf(v); });
    case UnaryKind::log:
      return each(x, [](float v) { return logf(v); });
    case UnaryKind::sqrt:
      return each(x, [](float v) { return sqrtf(v); });
    case UnaryKind::rsqrt:
      return each(x, [](float v) { return 1.0f / sqrtf(v); });
    case UnaryKind::square:
      return each(x, [](float v) { return v * v; });
    case UnaryKind::abs:
      return each(x, [](float v) { return fabsf(v); });
    case UnaryKind::tanh:
      return each(x, [](float v) { return tanhf(v); });
    case UnaryKind::sigmoid:
      return each(x, [](float v) { return sigmoid(v); });
    case UnaryKind::relu:
      return each(x, [](float v) { return relu(v); });
    case UnaryKind::gelu_tanh:
      return each(x, [](float v) { return gelu_tanh(v); });
    case UnaryKind::gelu_erf:
      return each(x, [](float v) { return gelu_erf(v); });
    case UnaryKind::silu:
      return each(x, [](float v) { return silu(v); });
    case UnaryKind::sin:
      return each(x, [](float v) { return sine(v); });
    case UnaryKind::cos:
      return each(x, [](float v) { return cosine(v); });
    case UnaryKind::reciprocal:
      return each(x, [](float v) { return 1.0f / v; });
    case UnaryKind::elu_plus_one:
      return each(x, [](float v) { return v > 0 ? v + 1.0f : expf(v); });
    default:
      return each(x, [kind](float v) { return rare_value(v, kind); });
  }
}

template <int V>
__device__ __forceinline__ void apply_slope(float (&x)[V], UnaryKind kind) {
  switch (kind) {
    case UnaryKind::neg:
      return each(x, [](float) { return -1.0f; });
    case UnaryKind::exp:
      return each(x, [](float v) { return expf(v); });
    case UnaryKind::log:
      return each(x, [](float v) { return 1.0f / v; });
    case UnaryKind::sqrt:
      return each(x, [](float v) { return 0.5f / sqrtf(v); });
    case UnaryKind::rsqrt:
      return each(x, [](float v) { return -0.5f / (v * sqrtf(v)); });
    case UnaryKind::square:
      return each(x, [](float v) { return v + v; });
    case UnaryKind::abs:
      return each(x, [](float v) { return abs_slope(v); });
    case UnaryKind::tanh:
      return each(x, [](float v) { return 4.0f * sigmoid_grad(v + v); });
    case UnaryKind::sigmoid:
      return each(x, [](float v) { return sigmoid_grad(v); });
    case UnaryKind::relu:
      return each(x, [](float v) { return relu_grad(v); });
    case UnaryKind::gelu_tanh:
      return each(x, [](float v) { return gelu_tanh_grad(v); });
    case UnaryKind::gelu_erf:
      return each(x, [](float v) { return gelu_erf_grad(v); });
    case UnaryKind::silu:
      return each(x, [](float v) { return silu_grad(v); });
    case UnaryKind::sin:
      return each(x, [](float v) { return cosine(v); });
    case UnaryKind::cos:
      return each(x, [](float v) { return -sine(v); });
    case UnaryKind::reciprocal:
      return each(x, [](float v) { return -(1.0f / v) * (1.0f / v); });
    case UnaryKind::elu_plus_one:
      return each(x, [](float v) { return v > 0 ? 1.0f : expf(v); });
    default:
      return each(x, [kind](float v) { return rare_slope(v, kind); });
  }
}

template <class T>
__device__ void unary_body(const UnaryParams& p) {
  constexpr int V = 16 / sizeof(T);
  const Lanes<2, V> at = lanes_of<V>(p.elements);
  float x[V];
  load_lane_floats<1, T>(x, p.elements, at, p.inp);
  apply_value(x, p.kind);
  store_lane_floats<T>(x, p.elements, at, p.out, false);
}

template <class T>
__device__ void unary_backward_body(const UnaryBackwardParams& p) {
  constexpr int V = 16 / sizeof(T);
  const Lanes<3, V> at = lanes_of<V>(p.elements);
  float x[V], dout[V];
  load_lane_floats<1, T>(dout, p.elements, at, p.dout);
  load_lane_floats<2, T>(x, p.elements, at, p.inp);
  apply_slope(x, p.kind);
#pragma unroll
  for (int k = 0; k < V; k++) x[k] *= dout[k];
  store_lane_floats<T>(x, p.elements, at, p.dinp, p.accumulate);
}

#endif

HEED_KERNEL_FLOATS(unary_kernel, UnaryParams, kElementThreads, 1, unary_body)
HEED_KERNEL_FLOATS(unary_backward_kernel, UnaryBackwardParams, kElementThreads, 1, unary_backward_body)

#if !HEED_DEVICE_CODE

void host::unary(Stream& stream, Out out, In inp, Int kind) {
  check_unary(out, inp, kind);
  if (out.empty()) return;
  for_launches<2>({&out, &inp}, vector_width(out.dtype),
                  [&](const Elements<2>& elements, void* const* data, int64_t blocks) {
                    stream.launch("unary", unary_kernel(out.dtype), {blocks},
                                  UnaryParams{elements, data[0], data[1], static_cast<UnaryKind>(kind)});
                  });
}

void host::unary_backward(Stream& stream, Out dinp, In dout, In inp, Int kind, Bool accumulate) {
  check_unary_backward(dinp, dout, inp, kind);
  if (dinp.empty()) return;
  for_launches<3>({&dinp, &dout, &inp}, vector_width(dinp.dtype),
                  [&](const Elements<3>& elements, void* const* data, int64_t blocks) {
                    stream.launch("unary_backward", unary_backward_kernel(dinp.dtype), {blocks},
                                  UnaryBackwardParams{elements, data[0], data[1], data[2], static_cast<UnaryKind>(kind),
                                                      accumulate});
                  });
}

#endif

}  // namespace heed::cuda
