// out = f(a, b), or out += f(a, b), for equal shapes and any strides; a stride of 0 in a or b broadcasts.
//
// kinds.h lists f. maximum and minimum are NaN if either side is; comparisons give 1 or 0 and are false with NaN.
// Beside 16-bit tensors an operand may be a single f32 number, which is not rounded to 16 bits. A broadcast over
// leading dimensions uses the same row repeatedly. The work is parallel over elements.
#include "core/kinds.h"
#include "cpu/kernels/kernel.h"
#include "cpu/kernels/strided.h"

namespace heed::cpu {
namespace HEED_ISA {
namespace {

inline vf pow_lanes(vf a, vf b) {
  float x[kWidth], y[kWidth];
  store(x, a);
  store(y, b);
  for (int i = 0; i < kWidth; i++) x[i] = powf(x[i], y[i]);
  return load(x);
}

template <BinaryKind kind>
inline vf apply(vf a, vf b) {
  const vf one = set1(1.0f), zero = vf{};
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
      return select(a == a, vmax(a, b), a);  // vmax returns b if either is NaN
    case BinaryKind::minimum:
      return select(a == a, vmin(a, b), a);
    case BinaryKind::pow:
      return pow_lanes(a, b);
    case BinaryKind::equal:
      return select(a == b, one, zero);
    case BinaryKind::greater:
      return select(a > b, one, zero);
    case BinaryKind::less:
      return select(a < b, one, zero);
  }
  return zero;
}

}  // namespace
}  // namespace HEED_ISA

void HEED_ISA::binary(Stream& stream, Out out, MixedIn a, MixedIn b, Int kind, Bool accumulate) {
  check_binary(out, a, b, kind);
  if (out.empty()) return;
  stream.launch("binary", [out, a, b, kind, accumulate] {
    with_kind<BinaryKind, kBinaryKinds>(kind, [&](auto k) {
      constexpr BinaryKind named = decltype(k)::value;
      const bool left = is_number(a, out);
      if (!left && !is_number(b, out))
        return map_elements(accumulate, [](vf x, vf y) { return apply<named>(x, y); }, out, a, b);
      const vf number = set1(*(left ? a : b).f32());
      const auto with_number = [=](vf x) { return apply<named>(left ? number : x, left ? x : number); };
      map_elements(accumulate, with_number, out, left ? b : a);
    });
  });
}

}  // namespace heed::cpu
