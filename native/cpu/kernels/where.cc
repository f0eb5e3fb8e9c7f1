// out = condition ? a : b (ops.def), for any strides and dtypes: bits are moved, so that types of one size share a
// loop. The work is parallel over elements.
#include "cpu/kernels/kernel.h"
#include "cpu/kernels/pieces.h"

namespace heed::cpu {
namespace HEED_ISA {
namespace {

template <class T, class C>
void choose(const TensorView& out, const TensorView& condition, const TensorView& a, const TensorView& b) {
  const Loop<4> loop = make_loop({&out, &condition, &a, &b});
  const C bits = static_cast<C>(condition_bits(condition.dtype));
  parallel_rows(loop, [&](const int64_t* offsets, int64_t n) {
    PieceOut<T> to;
    PieceIn<C> condition_row;
    PieceIn<T> a_row, b_row;
    to.row = out.ptr<T>() + offsets[0], to.stride = loop.stride(0);
    condition_row.row = condition.ptr<const C>() + offsets[1], condition_row.stride = loop.stride(1);
    a_row.row = a.ptr<const T>() + offsets[2], a_row.stride = loop.stride(2);
    b_row.row = b.ptr<const T>() + offsets[3], b_row.stride = loop.stride(3);
    over_pieces(n, [&](int64_t begin, int64_t count) {
      const C* const given = condition_row.at(begin, count);
      const T *const x = a_row.at(begin, count), *const y = b_row.at(begin, count);
      T* const result = to.at(begin);
      for (int64_t i = 0; i < count; i++) result[i] = (given[i] & bits) != 0 ? x[i] : y[i];
      to.put(begin, count);
    });
  });
}

// Calls f(T{}) with the unsigned integer of a dtype's size.
template <class F>
void with_bits(DType dtype, const F& f) {
  switch (size_of(dtype)) {
    case 1:
      return f(uint8_t{});
    case 2:
      return f(uint16_t{});
    default:
      return f(uint32_t{});
  }
}

}  // namespace
}  // namespace HEED_ISA

void HEED_ISA::where(Stream& stream, Out out, AnyIn condition, AnyIn a, AnyIn b) {
  check_where(out, condition, a, b);
  if (out.empty()) return;
  stream.launch("where", [out, condition, a, b] {
    with_bits(out.dtype, [&](auto type) {
      with_bits(condition.dtype, [&](auto test) { choose<decltype(type), decltype(test)>(out, condition, a, b); });
    });
  });
}

}  // namespace heed::cpu
