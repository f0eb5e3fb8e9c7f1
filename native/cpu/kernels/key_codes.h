// Keys and values in 8 bits (ops.def): D int8 codes of a token's head, and their scale. Whoever reads a row gets the
// numbers that it stands for, rounded to the dtype of the queries, so attention has the bits that it has over keys and
// values of that dtype with those numbers.
#pragma once
#include <cfloat>

#include "cpu/kernels/convert.h"

namespace heed::cpu::HEED_ISA {
namespace {

constexpr float kMostCode = 127;

// A row that is stored as codes. Without codes it stands for no row.
struct CodedRow {
  const uint8_t* codes = nullptr;
  float scale = 0;

  explicit operator bool() const { return codes; }
  // Returns a vector of the D numbers, from the d-th on, with zeros beyond D. They are not rounded yet.
  vf read(int64_t d, int64_t D) const {
    vu8 bytes{};
    if (d + kWidth <= D)
      bytes = load_as<vu8>(codes + d);
    else if (d < D)
      __builtin_memcpy(&bytes, codes + d, static_cast<size_t>(D - d));
    return __builtin_convertvector(widen(bytes) << 24 >> 24, vf) * set1(scale);
  }
  // out[D] = the numbers in T.
  template <class T>
  void decode(T* out, int64_t D) const {
    int64_t d = 0;
    for (; d + kWidth <= D; d += kWidth) store(out + d, read(d, D));
    if (d < D) store_n(out + d, read(d, D), D - d);
  }
};

// Writes the codes of x[D] and returns their scale.
template <class T>
inline float encode_row(const T* x, int64_t D, uint8_t* codes) {
  const auto at = [&](int64_t d) { return d + kWidth <= D ? load(x + d) : load_n(x + d, D - d); };
  vf most{}, nan{};
  for (int64_t d = 0; d < D; d += kWidth) {
    most = vmax(most, vabs(at(d)));
    nan += at(d) - at(d);  // NaN for numbers that are not finite, and else 0
  }
  float scale = hmax(most) / kMostCode;
  if (scale < FLT_MIN) scale = 0;
  scale += hsum(nan);
  if (!(scale > 0)) {
    __builtin_memset(codes, 0, static_cast<size_t>(D));
    return scale;
  }
  for (int64_t d = 0; d < D; d += kWidth) {
    const vf rounded = round_even(at(d) / set1(scale));
    const vu8 bytes = narrow_bytes(__builtin_convertvector(rounded, vi) & 255);
    __builtin_memcpy(codes + d, &bytes, static_cast<size_t>(D - d < kWidth ? D - d : kWidth));
  }
  return scale;
}

// Rounds f32 to a float dtype.
inline vf rounded_to(DType dtype, vf x) {
  if (dtype == DType::bf16) return decode(bf16{}, encode(bf16{}, x));
  if (dtype == DType::f16) return decode(f16{}, encode(f16{}, x));
  return x;
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
