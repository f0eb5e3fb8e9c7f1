// Half-precision arithmetic: an exact or odd-rounded double (its 53 bits are more than twice the 11 of f16 and the 8 of
// bf16, plus two) is rounded once to 16 bits.
#include "simulator/half.h"

#include <cmath>

#include "simulator/approx.h"
#include "simulator/conversions.h"

namespace heed::simulator {
namespace {

// Returns x + y with the last bit set if the sum is not exact. Rounding it once more then gives the same result as
// rounding the exact sum.
double odd_sum(double x, double y) {
  const double s = x + y;
  if (!std::isfinite(s)) return s;
  const double t = s - x;
  const double error = (x - (s - t)) + (y - t);
  const uint64_t bits = bits_as<uint64_t>(s);
  if (error == 0 || (bits & 1)) return s;
  return bits_as<double>((error > 0) == (s > 0) ? bits + 1 : bits - 1);
}

template <Type T>
uint16_t narrow(double value) {
  return T == Type::f16 ? to_f16(value) : to_bf16(value);
}

bool is_nan(double value) { return value != value; }

// Selects the smaller or the larger of two numbers, and orders zeros of different sign.
template <Type T, bool Max>
uint16_t select(uint16_t a, uint16_t b, bool nan, bool xorsign_abs) {
  const uint16_t sign = (a ^ b) & 0x8000;
  if (xorsign_abs) {
    a &= 0x7fff;
    b &= 0x7fff;
  }
  const float x = Half<T>::to_float(a), y = Half<T>::to_float(b);
  if (is_nan(x) || is_nan(y)) {
    if (nan || (is_nan(x) && is_nan(y))) return canonical_nan16;
    const uint16_t number = is_nan(x) ? b : a;
    return xorsign_abs ? number | sign : number;
  }
  const bool a_first = x < y || (x == y && (a & 0x8000));
  const uint16_t result = a_first == Max ? b : a;
  return xorsign_abs ? result | sign : result;
}

}  // namespace

template <Type T>
float Half<T>::to_float(Bits a) {
  return T == Type::f16 ? f16_to_f32(a) : bf16_to_f32(a);
}

template <Type T>
typename Half<T>::Bits Half<T>::add(Bits a, Bits b) {
  return narrow<T>(odd_sum(to_float(a), to_float(b)));
}

template <Type T>
typename Half<T>::Bits Half<T>::sub(Bits a, Bits b) {
  return narrow<T>(odd_sum(to_float(a), -static_cast<double>(to_float(b))));
}

template <Type T>
typename Half<T>::Bits Half<T>::mul(Bits a, Bits b) {
  return narrow<T>(static_cast<double>(to_float(a)) * static_cast<double>(to_float(b)));
}

template <Type T>
typename Half<T>::Bits Half<T>::fma(Bits a, Bits b, Bits c) {
  const double product = static_cast<double>(to_float(a)) * static_cast<double>(to_float(b));
  return narrow<T>(odd_sum(product, to_float(c)));
}

template <Type T>
typename Half<T>::Bits Half<T>::fma_relu(Bits a, Bits b, Bits c) {
  const Bits result = fma(a, b, c);
  return is_nan(to_float(result)) ? canonical_nan16 : (result & 0x8000) ? Bits{0} : result;
}

template <Type T>
typename Half<T>::Bits Half<T>::min(Bits a, Bits b, bool nan, bool xorsign_abs) {
  return select<T, false>(a, b, nan, xorsign_abs);
}

template <Type T>
typename Half<T>::Bits Half<T>::max(Bits a, Bits b, bool nan, bool xorsign_abs) {
  return select<T, true>(a, b, nan, xorsign_abs);
}

template <Type T>
typename Half<T>::Bits Half<T>::ex2(Bits a) {
  return narrow<T>(ex2_approx(to_float(a), false));
}

template <Type T>
typename Half<T>::Bits Half<T>::tanh(Bits a) {
  return narrow<T>(tanh_double(to_float(a)));
}

template <Type T>
typename Half<T>::Bits Half<T>::ftz(Bits a) {
  const uint16_t exponent = T == Type::f16 ? 0x7c00 : 0x7f80;
  return (a & exponent) ? a : static_cast<Bits>(a & 0x8000);
}

template <Type T>
typename Half<T>::Bits Half<T>::saturate(Bits a) {
  const float x = to_float(a);
  return !(x > 0) ? Bits{0} : x < 1 ? a : narrow<T>(1);
}

template struct Half<Type::f16>;
template struct Half<Type::bf16>;

}  // namespace heed::simulator
