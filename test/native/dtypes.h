// Tensors of float dtypes for tests, and a reference for conversions that rounds in double by definition.
#pragma once
#include <cstring>

#include "views.h"

namespace heed::test {

// A float format: bits of the significand (including the leading one), smallest normal exponent, first value that
// overflows.
struct Format {
  int precision, least;
  double overflow;
};
constexpr Format kBf16 = {8, -126, 0x1.ffp127}, kF16 = {11, -14, 65520.0};

inline double round_to(const Format& format, double x) {
  if (x == 0 || !std::isfinite(x)) return x;
  if (std::fabs(x) >= format.overflow) return std::copysign(HUGE_VAL, x);
  const double unit = std::ldexp(1.0, std::max(std::ilogb(x), format.least) - format.precision + 1);
  return std::nearbyint(x / unit) * unit;
}

inline double decode(DType dtype, uint16_t bits) {
  const int exponent_bits = dtype == DType::bf16 ? 8 : 5, fraction_bits = 15 - exponent_bits;
  const int exponent = (bits >> fraction_bits) & ((1 << exponent_bits) - 1), bias = (1 << (exponent_bits - 1)) - 1;
  const int fraction = bits & ((1 << fraction_bits) - 1);
  double value =
      std::ldexp(fraction + (exponent ? 1 << fraction_bits : 0), std::max(exponent, 1) - bias - fraction_bits);
  if (exponent == (1 << exponent_bits) - 1) value = fraction ? NAN : HUGE_VAL;
  return bits >> 15 ? -value : value;
}

// Returns the bits of a value that `dtype` represents exactly: the inverse of decode.
inline uint16_t encode(DType dtype, double value) {
  const int fraction_bits = dtype == DType::bf16 ? 7 : 10, bias = dtype == DType::bf16 ? 127 : 15;
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const double size = std::fabs(value);
  if (std::isnan(size)) return static_cast<uint16_t>((2 * bias + 1) << fraction_bits | 1 << (fraction_bits - 1));
  if (size == 0) return sign;
  if (std::isinf(size)) return static_cast<uint16_t>(sign | (2 * bias + 1) << fraction_bits);
  const int exponent = std::max(std::ilogb(size), 1 - bias);
  const auto fraction = static_cast<int>(std::ldexp(size, fraction_bits - exponent));  // including the leading one
  const int biased = fraction >> fraction_bits ? exponent + bias : 0;
  return static_cast<uint16_t>(sign | biased << fraction_bits | (fraction & ((1 << fraction_bits) - 1)));
}

// Returns the number after conversion to a float dtype.
inline double converted(DType dtype, double x) {
  if (dtype == DType::f32) return static_cast<float>(x);
  return round_to(dtype == DType::bf16 ? kBf16 : kF16, x);
}

// Memory of a float dtype, read and written as double (integer memory can be passed to operations that refuse it).
struct Any {
  Any(DType dtype, const Shape& shape, Layout layout = Layout::contiguous)
      : halves(shape, layout), words(shape, layout), view(words.view) {
    view.dtype = dtype;
    view.data = size_of(dtype) == 2 ? halves.view.data : words.view.data;
  }
  double get(int64_t i) const {
    const int64_t at = place(view, i);
    if (view.dtype != DType::f32) return decode(view.dtype, halves.memory[at]);
    float value;
    std::memcpy(&value, &words.memory[at], sizeof value);
    return value;
  }
  void set_f32(int64_t i, float value) { std::memcpy(&words.memory[place(view, i)], &value, sizeof value); }
  // Sets an element of a float dtype, which must represent the value exactly.
  void set(int64_t i, double value) {
    if (view.dtype == DType::f32)
      set_f32(i, static_cast<float>(value));
    else
      halves.memory[place(view, i)] = encode(view.dtype, value);
  }

  Laid<uint16_t> halves;
  Laid<int32_t> words;
  TensorView view;
};

}  // namespace heed::test
