// out = f(a, b), or out += f(a, b), for equal shapes and any strides; a stride of 0 in a or b broadcasts.
//
// kinds.h lists f. maximum and minimum are NaN if either side is; comparisons give 1 or 0 and are false with NaN.
// Beside 16-bit tensors an operand may be a single f32 number, which is not rounded to 16 bits. A broadcast over
// leading dimensions uses the same row repeatedly. Integers wrap. The work is parallel over elements. The kinds from
// atan2 on are rare: they share a loop that calls them for each vector.
#include "core/binary.h"
#include "core/checks/checks.h"
#include "core/kinds.h"
#include "cpu/kernels/kernel.h"
#include "cpu/kernels/pieces.h"

namespace heed::cpu {
namespace HEED_ISA {
namespace {

template <class F>
inline vf each_pair(vf a, vf b, F f) {
  float x[kWidth], y[kWidth];
  store(x, a);
  store(y, b);
  for (int i = 0; i < kWidth; i++) x[i] = f(x[i], y[i]);
  return load(x);
}

constexpr int64_t kCommonKinds = static_cast<int64_t>(BinaryKind::atan2);
using Function = vf (*)(vf, vf);

Function rare(BinaryKind kind) {
  switch (kind) {
    case BinaryKind::atan2:
      return [](vf a, vf b) { return each_pair(a, b, atan2f); };
    case BinaryKind::floor_div:
      return [](vf a, vf b) { return each_pair(a, b, [](float x, float y) { return floor_div(x, y, fmodf(x, y)); }); };
    default:  // floor_mod
      return [](vf a, vf b) { return each_pair(a, b, [](float x, float y) { return floor_mod(y, fmodf(x, y)); }); };
  }
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
      return each_pair(a, b, powf);
    case BinaryKind::equal:
      return select(a == b, one, zero);
    case BinaryKind::greater:
      return select(a > b, one, zero);
    case BinaryKind::less:
      return select(a < b, one, zero);
    case BinaryKind::not_equal:
      return select(a != b, one, zero);
    case BinaryKind::greater_equal:
      return select(a >= b, one, zero);
    case BinaryKind::less_equal:
      return select(a <= b, one, zero);
    case BinaryKind::logical_and:
      return select((a != zero) & (b != zero), one, zero);
    case BinaryKind::logical_or:
      return select((a != zero) | (b != zero), one, zero);
    case BinaryKind::squared_difference:
      return (a - b) * (a - b);
    default:
      return zero;
  }
}

template <BinaryKind kind, class T>
void apply_integers(const TensorView& out, const TensorView& a, const TensorView& b, bool accumulate) {
  const Loop<3> loop = make_loop({&out, &a, &b});
  parallel_rows(loop, [&](const int64_t* offsets, int64_t n) {
    PieceOut<T> to;
    PieceIn<T> before, a_row, b_row;
    to.row = out.ptr<T>() + offsets[0], to.stride = loop.stride(0);
    before.row = to.row, before.stride = to.stride;
    a_row.row = a.ptr<const T>() + offsets[1], a_row.stride = loop.stride(1);
    b_row.row = b.ptr<const T>() + offsets[2], b_row.stride = loop.stride(2);
    over_pieces(n, [&](int64_t begin, int64_t count) {
      const T *const x = a_row.at(begin, count), *const y = b_row.at(begin, count);
      T* const result = to.at(begin);
      if (accumulate) {
        const T* const sum = before.at(begin, count);
        for (int64_t i = 0; i < count; i++)
          result[i] = integer_binary<T>(BinaryKind::add, sum[i], integer_binary<T>(kind, x[i], y[i]));
      } else {
        for (int64_t i = 0; i < count; i++) result[i] = integer_binary<T>(kind, x[i], y[i]);
      }
      to.put(begin, count);
    });
  });
}

template <class F>
void apply_floats(const TensorView& out, const TensorView& a, const TensorView& b, bool accumulate, const F& f) {
  const bool left = is_number(a, out);
  if (!left && !is_number(b, out)) return map_elements(accumulate, f, out, a, b);
  const vf number = set1(*(left ? a : b).f32());
  const auto with_number = [=](vf x) { return f(left ? number : x, left ? x : number); };
  map_elements(accumulate, with_number, out, left ? b : a);
}

}  // namespace
}  // namespace HEED_ISA

void HEED_ISA::binary(Stream& stream, Out out, MixedIn a, MixedIn b, Int kind, Bool accumulate) {
  check_binary(out, a, b, kind);
  if (out.empty()) return;
  if (!is_float(out.dtype))
    return stream.launch("binary", [out, a, b, kind, accumulate] {
      with_kind<BinaryKind, kBinaryKinds>(kind, [&](auto k) {
        constexpr BinaryKind named = decltype(k)::value;
        if (out.dtype == DType::i32)
          apply_integers<named, int32_t>(out, a, b, accumulate);
        else
          apply_integers<named, uint8_t>(out, a, b, accumulate);
      });
    });
  stream.launch("binary", [out, a, b, kind, accumulate] {
    if (kind >= kCommonKinds) {
      const auto f = rare(static_cast<BinaryKind>(kind));
      return apply_floats(out, a, b, accumulate, [f](vf x, vf y) { return f(x, y); });
    }
    with_kind<BinaryKind, kCommonKinds>(kind, [&](auto k) {
      apply_floats(out, a, b, accumulate, [](vf x, vf y) { return apply<decltype(k)::value>(x, y); });
    });
  });
}

}  // namespace heed::cpu
