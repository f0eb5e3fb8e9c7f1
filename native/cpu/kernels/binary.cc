// out = f(a, b), or out += f(a, b), f32 of equal shapes and any strides; a stride of 0 in a or b broadcasts.
//
// kinds.h lists f. maximum and minimum are NaN where either side is; comparisons give 1 or 0 and are false with NaN.
// Rows where out and both sides are contiguous, or one side repeats one value, run on whole vectors in place; a
// broadcast over leading dimensions is such rows again and again. Other strides gather lanes. Parallel over elements.
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
      return select(a == a, vmax(a, b), a);  // vmax gives b where either is NaN
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

struct Operands {
  float *out, *a, *b;
  Loop<3> loop;
  bool accumulate;
};

template <BinaryKind kind>
void run(const Operands& x) {
  const int64_t so = x.loop.stride(0), sa = x.loop.stride(1), sb = x.loop.stride(2);
  parallel_rows(x.loop, [&](const int64_t* offsets, int64_t n) {
    float *out = x.out + offsets[0], *a = x.a + offsets[1], *b = x.b + offsets[2];
    const auto f = [](vf left, vf right) { return apply<kind>(left, right); };
    if (so == 1 && sa == 1 && sb == 1)
      map_row(Contiguous{out}, n, x.accumulate, f, Contiguous{a}, Contiguous{b});
    else if (so == 1 && sa == 1 && sb == 0)
      map_row(Contiguous{out}, n, x.accumulate, f, Contiguous{a}, Repeated{set1(*b)});
    else if (so == 1 && sa == 0 && sb == 1)
      map_row(Contiguous{out}, n, x.accumulate, f, Repeated{set1(*a)}, Contiguous{b});
    else
      map_row(Strided{out, so}, n, x.accumulate, f, Strided{a, sa}, Strided{b, sb});
  });
}

}  // namespace
}  // namespace HEED_ISA

void HEED_ISA::binary(Stream& stream, Out out, In a, In b, Int kind, Bool accumulate) {
  expect_dtype("binary", "out", out, DType::f32);
  check_binary(out, a, b, kind);
  if (out.empty()) return;
  stream.launch("binary", [out, a, b, kind, accumulate] {
    const Operands operands{out.f32(), a.f32(), b.f32(), make_loop({&out, &a, &b}), accumulate};
    with_kind<BinaryKind, kBinaryKinds>(kind, [&](auto k) { run<k.value>(operands); });
  });
}

}  // namespace heed::cpu
