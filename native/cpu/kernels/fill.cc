// out[...] = value, converted to the dtype of `out` as convert.h describes. It takes any strides and is parallel over
// elements.
#include "cpu/kernels/convert.h"
#include "cpu/kernels/kernel.h"
#include "cpu/kernels/strided.h"

namespace heed::cpu {
namespace HEED_ISA {
namespace {

template <class Bits>
void fill_rows(void* out, const Loop<1>& loop, Bits value) {
  parallel_rows(loop, [&](const int64_t* offsets, int64_t n) {
    Bits* row = static_cast<Bits*>(out) + offsets[0];
    const int64_t stride = loop.stride(0);
    if (stride == 1)
      for (int64_t i = 0; i < n; i++) row[i] = value;
    else
      for (int64_t i = 0; i < n; i++) row[i * stride] = value;
  });
}

}  // namespace
}  // namespace HEED_ISA

void HEED_ISA::fill(Stream& stream, Out out, Float value) {
  check_fill(out);
  if (out.empty()) return;
  stream.launch("fill", [out, value] {
    const Loop<1> loop = make_loop({&out});
    with_type(out.dtype, [&](auto type) {
      decltype(type) lanes[kWidth];
      store_f32(lanes, set1(value));
      uint32_t bits = 0;
      std::memcpy(&bits, lanes, sizeof type);
      if constexpr (sizeof type == 4) fill_rows<uint32_t>(out.data, loop, bits);
      if constexpr (sizeof type == 2) fill_rows<uint16_t>(out.data, loop, static_cast<uint16_t>(bits));
      if constexpr (sizeof type == 1) fill_rows<uint8_t>(out.data, loop, static_cast<uint8_t>(bits));
    });
  });
}

}  // namespace heed::cpu
