// Functions of `binary` (ops.def) that the kernels of every device share: those of integers, and quotients of floats
// that are rounded down.
#pragma once
#include <cmath>
#include <type_traits>

#include "core/inlined.h"
#include "core/kinds.h"

namespace heed {

// Returns a - b · floor(a / b), exactly, from rest = fmod(a, b). It has the sign of b.
HEED_INLINED float floor_mod(float b, float rest) {
  if (rest == 0) return copysignf(0.0f, b);
  return (rest < 0) != (b < 0) ? rest + b : rest;
}

// Returns floor(a / b) from rest = fmod(a, b). a - rest is a multiple of b, but from 2^22 on the quotient in f32 may
// miss that integer by a few. What the missed multiples of b leave of a, besides the rest, tells how many they are.
HEED_INLINED float floor_div(float a, float b, float rest) {
  if (b == 0) return a / b;
  const float quotient = rintf((a - rest) / b);
  const bool finite = fabsf(quotient) < INFINITY && fabsf(b) < INFINITY;
  const float missed = finite ? rintf((fmaf(-quotient, b, a) - rest) / b) : 0.0f;
  const bool down = rest != 0 && (rest < 0) != (b < 0);
  return quotient + (down ? missed - 1.0f : missed);
}

// Returns kind(a, b) of integers. Unsigned arithmetic wraps.
template <class T>
HEED_INLINED T integer_binary(BinaryKind kind, T a, T b) {
  using U = std::make_unsigned_t<T>;
  const U x = static_cast<U>(a), y = static_cast<U>(b), difference = static_cast<U>(x - y);
  switch (kind) {
    case BinaryKind::add:
      return static_cast<T>(x + y);
    case BinaryKind::sub:
      return static_cast<T>(difference);
    case BinaryKind::mul:
      return static_cast<T>(x * y);
    case BinaryKind::maximum:
      return a > b ? a : b;
    case BinaryKind::minimum:
      return a < b ? a : b;
    case BinaryKind::equal:
      return a == b;
    case BinaryKind::greater:
      return a > b;
    case BinaryKind::less:
      return a < b;
    case BinaryKind::not_equal:
      return a != b;
    case BinaryKind::greater_equal:
      return a >= b;
    case BinaryKind::less_equal:
      return a <= b;
    case BinaryKind::logical_and:
      return a != 0 && b != 0;
    case BinaryKind::logical_or:
      return a != 0 || b != 0;
    case BinaryKind::squared_difference:
      return static_cast<T>(difference * difference);
    case BinaryKind::floor_div:
    case BinaryKind::floor_mod: {
      const bool quotient = kind == BinaryKind::floor_div;
      if (b == 0) return 0;
      if (std::is_signed_v<T> && b == static_cast<T>(-1)) return quotient ? static_cast<T>(U{} - x) : T{};
      const T rest = static_cast<T>(a % b);
      const bool down = rest != 0 && (rest < 0) != (b < 0);
      return static_cast<T>(quotient ? a / b - down : rest + (down ? b : 0));
    }
    default:  // check_binary refuses the others
      return 0;
  }
}

}  // namespace heed
