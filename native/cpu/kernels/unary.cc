// out = f(inp), and dinp = dout · f'(inp), written or, with `accumulate`, added. They take equal shapes and any
// strides.
//
// kinds.h lists f. Backward needs the forward's input. The work is parallel over elements. The kinds before erf have a
// loop each; the others, which are rarer, share one that calls them for each vector.
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
    default:
      return x;
  }
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
    default:
      return one;
  }
}

constexpr int64_t kCommonKinds = static_cast<int64_t>(UnaryKind::erf);
using Function = vf (*)(vf);

// selu of Klambauer et al. 2017, "Self-Normalizing Neural Networks".
constexpr float kSeluScale = 1.0507009873554805f, kSeluBelow = 1.7580993408473769f;

inline vf flag(vi mask) { return select(mask, set1(1.0f), vf{}); }

// The C library's functions are called lane by lane.
Function rare_value(UnaryKind kind) {
  switch (kind) {
    case UnaryKind::erf:
      return [](vf x) { return verf(x); };
    case UnaryKind::tan:
      return [](vf x) { return each_lane(x, tanf); };
    case UnaryKind::asin:
      return [](vf x) { return each_lane(x, asinf); };
    case UnaryKind::acos:
      return [](vf x) { return each_lane(x, acosf); };
    case UnaryKind::atan:
      return [](vf x) { return each_lane(x, atanf); };
    case UnaryKind::sinh:
      return [](vf x) { return each_lane(x, sinhf); };
    case UnaryKind::cosh:
      return [](vf x) { return each_lane(x, coshf); };
    case UnaryKind::asinh:
      return [](vf x) { return each_lane(x, asinhf); };
    case UnaryKind::acosh:
      return [](vf x) { return each_lane(x, acoshf); };
    case UnaryKind::atanh:
      return [](vf x) { return each_lane(x, atanhf); };
    case UnaryKind::expm1:
      return [](vf x) { return vexpm1(x); };
    case UnaryKind::log1p:
      return [](vf x) { return vlog1p(x); };
    case UnaryKind::softplus:
      return [](vf x) { return vmax(vf{}, x) + vlog1p(vexp(-vabs(x))); };
    case UnaryKind::elu:
      return [](vf x) { return select(x > vf{}, x, vexpm1(x)); };
    case UnaryKind::selu:
      return [](vf x) { return select(x > vf{}, set1(kSeluScale) * x, set1(kSeluBelow) * vexpm1(x)); };
    case UnaryKind::relu6:
      return [](vf x) { return vmin(set1(6.0f), relu(x)); };
    case UnaryKind::round:
      return [](vf x) { return vround(x); };
    case UnaryKind::floor:
      return [](vf x) { return vfloor(x); };
    case UnaryKind::ceil:
      return [](vf x) { return -vfloor(-x); };
    case UnaryKind::sign:
      return [](vf x) { return flag(x > vf{}) - flag(x < vf{}); };
    case UnaryKind::is_nan:
      return [](vf x) { return flag(x != x); };
    case UnaryKind::is_inf:
      return [](vf x) { return flag(vabs(x) == set1(INFINITY)); };
    default:  // is_finite
      return [](vf x) { return flag(vabs(x) < set1(INFINITY)); };
  }
}

Function rare_slope(UnaryKind kind) {
  switch (kind) {
    case UnaryKind::erf:
      return [](vf x) { return set1(1.1283791670955126f) * vexp(-x * x); };  // 2/√π
    case UnaryKind::tan:
      return [](vf x) {
        const vf y = each_lane(x, tanf);
        return fma(y, y, set1(1.0f));
      };
    case UnaryKind::asin:
      return [](vf x) { return reciprocal(vsqrt((set1(1.0f) - x) * (set1(1.0f) + x))); };
    case UnaryKind::acos:
      return [](vf x) { return -reciprocal(vsqrt((set1(1.0f) - x) * (set1(1.0f) + x))); };
    case UnaryKind::atan:
      return [](vf x) { return reciprocal(fma(x, x, set1(1.0f))); };
    case UnaryKind::sinh:
      return [](vf x) { return each_lane(x, coshf); };
    case UnaryKind::cosh:
      return [](vf x) { return each_lane(x, sinhf); };
    case UnaryKind::asinh:
      return [](vf x) { return reciprocal(vsqrt(fma(x, x, set1(1.0f)))); };
    case UnaryKind::acosh:
      return [](vf x) { return reciprocal(vsqrt((x - set1(1.0f)) * (x + set1(1.0f)))); };
    case UnaryKind::atanh:
      return [](vf x) { return reciprocal((set1(1.0f) - x) * (set1(1.0f) + x)); };
    case UnaryKind::expm1:
      return [](vf x) { return vexp(x); };
    case UnaryKind::log1p:
      return [](vf x) { return reciprocal(set1(1.0f) + x); };
    case UnaryKind::softplus:
      return [](vf x) { return sigmoid(x); };
    case UnaryKind::elu:
      return [](vf x) { return select(x > vf{}, set1(1.0f), vexp(x)); };
    case UnaryKind::selu:
      return [](vf x) { return select(x > vf{}, set1(kSeluScale), set1(kSeluBelow) * vexp(x)); };
    case UnaryKind::relu6:
      return [](vf x) { return flag((x > vf{}) & (x < set1(6.0f))); };
    default:  // the roundings and the tests
      return [](vf) { return vf{}; };
  }
}

}  // namespace
}  // namespace HEED_ISA

void HEED_ISA::unary(Stream& stream, Out out, In inp, Int kind) {
  check_unary(out, inp, kind);
  if (out.empty()) return;
  stream.launch("unary", [out, inp, kind] {
    if (kind >= kCommonKinds)
      return map_elements(false, [f = rare_value(static_cast<UnaryKind>(kind))](vf x) { return f(x); }, out, inp);
    with_kind<UnaryKind, kCommonKinds>(
        kind, [&](auto k) { map_elements(false, [](vf x) { return value<decltype(k)::value>(x); }, out, inp); });
  });
}

void HEED_ISA::unary_backward(Stream& stream, Out dinp, In dout, In inp, Int kind, Bool accumulate) {
  check_unary_backward(dinp, dout, inp, kind);
  if (dinp.empty()) return;
  stream.launch("unary_backward", [dinp, dout, inp, kind, accumulate] {
    if (kind >= kCommonKinds) {
      const auto f = rare_slope(static_cast<UnaryKind>(kind));
      return map_elements(accumulate, [f](vf d, vf x) { return d * f(x); }, dinp, dout, inp);
    }
    with_kind<UnaryKind, kCommonKinds>(kind, [&](auto k) {
      map_elements(accumulate, [](vf d, vf x) { return d * slope<decltype(k)::value>(x); }, dinp, dout, inp);
    });
  });
}

}  // namespace heed::cpu
