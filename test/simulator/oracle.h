// Rounding by definition, for the tests of the semantics: the two neighbours of an exact value among the numbers of a
// format, and the rule that chooses one.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "simulator/types.h"

namespace heed::simulator {

__extension__ typedef __float128 Exact;  // 113 bits

// below and above are neighbours with below <= exact <= above; `below_even` says that the last bit of below's
// significand is 0.
template <class T>
T pick(Exact exact, T below, T above, bool below_even, Rounding rounding) {
  if (static_cast<Exact>(below) == exact) return below;
  if (static_cast<Exact>(above) == exact) return above;
  const Exact down = exact - static_cast<Exact>(below), up = static_cast<Exact>(above) - exact;
  switch (rounding) {
    case Rounding::rz:
    case Rounding::rzi:
      return exact > 0 ? below : above;
    case Rounding::rm:
    case Rounding::rmi:
      return below;
    case Rounding::rp:
    case Rounding::rpi:
      return above;
    case Rounding::rna:
      return down < up ? below : up < down ? above : exact > 0 ? above : below;
    default:
      return down < up ? below : up < down ? above : below_even ? below : above;
  }
}

// Returns the exact value (finite, not zero) rounded to f32 or f64.
template <class T>
T round_to(Exact exact, Rounding rounding) {
  const T largest = std::numeric_limits<T>::max(), infinity = std::numeric_limits<T>::infinity();
  if (exact > largest || exact < -static_cast<Exact>(largest)) {
    const Exact ulp = static_cast<Exact>(largest) - std::nextafter(largest, T{0});
    const bool positive = exact > 0, beyond_half = (positive ? exact : -exact) >= static_cast<Exact>(largest) + ulp / 2;
    const bool away = rounding == Rounding::rp   ? positive
                      : rounding == Rounding::rm ? !positive
                                                 : rounding != Rounding::rz && beyond_half;
    return (positive ? 1 : -1) * (away ? infinity : largest);
  }
  T below = static_cast<T>(exact);  // a number near it
  while (static_cast<Exact>(below) > exact) below = std::nextafter(below, -infinity);
  while (static_cast<Exact>(std::nextafter(below, infinity)) <= exact) below = std::nextafter(below, infinity);
  const T above = std::nextafter(below, infinity);
  bool even;
  if constexpr (sizeof(T) == 4)
    even = !(bits_as<uint32_t>(below) & 1);
  else
    even = !(bits_as<uint64_t>(below) & 1);
  const T result = pick(exact, below, above, even, rounding);
  return result == 0 ? std::copysign(T{0}, exact < 0 ? T{-1} : T{1}) : result;
}

// The numbers of a 16-bit format, decoded by its definition: (-1)^s · 2^(e - bias) · 1.m, subnormal 2^(1 - bias) · 0.m.
class Format16 {
 public:
  explicit Format16(int mantissa)
      : mantissa_(mantissa), bias_((1 << (14 - mantissa)) - 1), exponents_(1 << (15 - mantissa)) {}

  bool is_nan(uint16_t bits) const { return field(bits) == exponents_ - 1 && fraction(bits); }
  bool is_infinite(uint16_t bits) const { return field(bits) == exponents_ - 1 && !fraction(bits); }
  double value(uint16_t bits) const {
    const double sign = bits & 0x8000 ? -1 : 1;
    if (is_nan(bits)) return NAN;
    if (is_infinite(bits)) return sign * INFINITY;
    const int e = field(bits);
    return sign * (e ? std::ldexp(1.0 + std::ldexp(fraction(bits), -mantissa_), e - bias_)
                     : std::ldexp(fraction(bits), 1 - bias_ - mantissa_));
  }
  uint16_t infinity() const { return static_cast<uint16_t>((exponents_ - 1) << mantissa_); }

  // `exact` must be finite and not zero.
  uint16_t round(Exact exact, Rounding rounding) const {
    const bool negative = exact < 0;
    const Exact magnitude = negative ? -exact : exact;
    // Finds the largest magnitude that is not above the value, by bisection: magnitudes are in the order of their bits.
    uint16_t low = 0, high = static_cast<uint16_t>(infinity() - 1);
    while (low < high) {
      const uint16_t middle = static_cast<uint16_t>((low + high + 1) / 2);
      if (static_cast<Exact>(value(middle)) <= magnitude)
        low = middle;
      else
        high = static_cast<uint16_t>(middle - 1);
    }
    // Beyond the largest number the next step is infinite, but counts as if the exponents continued.
    const Exact below = value(low), above = low + 1 == infinity() ? std::ldexp(1.0, exponents_ - 1 - bias_)
                                                                  : value(static_cast<uint16_t>(low + 1));
    Rounding of_magnitude = rounding;
    if (negative && rounding == Rounding::rm) of_magnitude = Rounding::rp;
    if (negative && rounding == Rounding::rp) of_magnitude = Rounding::rm;
    bool up;
    if (magnitude >= above)
      up = of_magnitude != Rounding::rz && of_magnitude != Rounding::rm;
    else
      up = pick(magnitude, 0 * below + below, above, !(low & 1), of_magnitude) != below;
    return static_cast<uint16_t>((low + (up ? 1 : 0)) | (negative ? 0x8000 : 0));
  }

 private:
  int field(uint16_t bits) const { return (bits & 0x7fff) >> mantissa_; }
  int fraction(uint16_t bits) const { return bits & ((1 << mantissa_) - 1); }
  int mantissa_, bias_, exponents_;
};

inline const Format16& format_of(Type type) {
  static const Format16 f16(10), bf16(7);
  return type == Type::f16 ? f16 : bf16;
}

}  // namespace heed::simulator
