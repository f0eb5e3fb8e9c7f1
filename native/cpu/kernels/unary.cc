// out = f(inp), and dinp = dout · f'(inp), written or, with `accumulate`, added. They take equal shapes and any
// strides.
//
// kinds.h lists f. Backward needs the forward's input. The work is parallel over elements.
#include "core/kinds.h"
#include "cpu/kernels/activation.h"
#include "cpu/kernels/elementary.h"
#include "cpu/kernels/kernel.h"
#include "cpu/kernels/strided.h"

namespace heed::cpu {
namespace HEED_ISA {
namespace {

inline vf reciprocal(vf x) { return set1(1.0f) / x; }

template <UnaryKind kind>
inline vf value(vf x) {
  switch (kind) {
    case UnaryKind::neg:
      return -x;
    case UnaryKind::exp:
      return vexp(x);
    case UnaryKind::log:
      return vlog(x);
    case UnaryKind::sqrt:
      return vsqrt(x);
    case UnaryKind::rsqrt:
      return reciprocal(vsqrt(x));
    case UnaryKind::square:
      return x * x;
    case UnaryKind::abs:
      return vabs(x);
    case UnaryKind::tanh:
      return vtanh(x);
    case UnaryKind::sigmoid:
      return sigmoid(x);
    case UnaryKind::relu:
      return relu(x);
    case UnaryKind::gelu_tanh:
      return gelu_tanh(x);
    case UnaryKind::gelu_erf:
      return gelu_erf(x);
    case UnaryKind::silu:
      return silu(x);
    case UnaryKind::sin:
      return vsin(x);
    case UnaryKind::cos:
      return vcos(x);
    case UnaryKind::reciprocal:
      return reciprocal(x);
    case UnaryKind::elu_plus_one:
      return select(x > vf{}, x + set1(1.0f), vexp(x));
  }
  return x;
}

template <UnaryKind kind>
inline vf slope(vf x) {
  const vf one = set1(1.0f), zero = vf{};
  switch (kind) {
    case UnaryKind::neg:
      return -one;
    case UnaryKind::exp:
      return vexp(x);
    case UnaryKind::log:
      return reciprocal(x);
    case UnaryKind::sqrt:
      return set1(0.5f) / vsqrt(x);
    case UnaryKind::rsqrt:
      return set1(-0.5f) / (x * vsqrt(x));
    case UnaryKind::square:
      return x + x;
    case UnaryKind::abs:
      return select(x > zero, one, select(x < zero, -one, x * zero));  // 0 at 0, NaN at NaN
    case UnaryKind::tanh:
      return set1(4.0f) * sigmoid_grad(x + x);
    case UnaryKind::sigmoid:
      return sigmoid_grad(x);
    case UnaryKind::relu:
      return relu_grad(x);
    case UnaryKind::gelu_tanh:
      return gelu_tanh_grad(x);
    case UnaryKind::gelu_erf:
      return gelu_erf_grad(x);
    case UnaryKind::silu:
      return silu_grad(x);
    case UnaryKind::sin:
      return vcos(x);
    case UnaryKind::cos:
      return -vsin(x);
    case UnaryKind::reciprocal:
      return -reciprocal(x) * reciprocal(x);
    case UnaryKind::elu_plus_one:
      return select(x > zero, one, vexp(x));
  }
  return one;
}

}  // namespace
}  // namespace HEED_ISA

void HEED_ISA::unary(Stream& stream, Out out, In inp, Int kind) {
  check_unary(out, inp, kind);
  if (out.empty()) return;
  stream.launch("unary", [out, inp, kind] {
    with_kind<UnaryKind, kUnaryKinds>(
        kind, [&](auto k) { map_elements(false, [](vf x) { return value<decltype(k)::value>(x); }, out, inp); });
  });
}

void HEED_ISA::unary_backward(Stream& stream, Out dinp, In dout, In inp, Int kind, Bool accumulate) {
  check_unary_backward(dinp, dout, inp, kind);
  if (dinp.empty()) return;
  stream.launch("unary_backward", [dinp, dout, inp, kind, accumulate] {
    with_kind<UnaryKind, kUnaryKinds>(kind, [&](auto k) {
      map_elements(accumulate, [](vf d, vf x) { return d * slope<decltype(k)::value>(x); }, dinp, dout, inp);
    });
  });
}

}  // namespace heed::cpu
