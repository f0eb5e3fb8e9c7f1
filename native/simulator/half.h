// Arithmetic of f16 and bf16, in which each operation is rounded once (rn), and of pairs of them packed in 32 bits.
//
// There is one class per type: `Half<Type::f16>::fma(a, b, c)`. pair(f, a, b) applies an operation to both halves.
#pragma once
#include <cstdint>

#include "simulator/types.h"

namespace heed::simulator {

template <Type T>
struct Half {
  static_assert(T == Type::f16 || T == Type::bf16, "a 16-bit floating-point type");
  using Bits = uint16_t;

  static float to_float(Bits a);
  static Bits add(Bits a, Bits b);
  static Bits sub(Bits a, Bits b);
  static Bits mul(Bits a, Bits b);
  static Bits fma(Bits a, Bits b, Bits c);
  static Bits fma_relu(Bits a, Bits b, Bits c);
  // These return the number if the other operand is NaN; -0 < +0. With nan they return NaN if either is NaN. With
  // xorsign_abs they compare the magnitudes and apply the product of the signs.
  static Bits min(Bits a, Bits b, bool nan = false, bool xorsign_abs = false);
  static Bits max(Bits a, Bits b, bool nan = false, bool xorsign_abs = false);
  static Bits neg(Bits a) { return static_cast<Bits>(a ^ 0x8000); }
  static Bits abs(Bits a) { return static_cast<Bits>(a & 0x7fff); }
  static Bits ex2(Bits a);       // .approx
  static Bits tanh(Bits a);      // .approx
  static Bits ftz(Bits a);       // f16: subnormal numbers become zeros
  static Bits saturate(Bits a);  // into [0, 1]; a NaN becomes 0
};

extern template struct Half<Type::f16>;
extern template struct Half<Type::bf16>;

template <class F>
inline uint32_t pair(F&& f, uint32_t a) {
  return uint32_t{f(static_cast<uint16_t>(a))} | uint32_t{f(static_cast<uint16_t>(a >> 16))} << 16;
}
template <class F>
inline uint32_t pair(F&& f, uint32_t a, uint32_t b) {
  return uint32_t{f(static_cast<uint16_t>(a), static_cast<uint16_t>(b))} |
         uint32_t{f(static_cast<uint16_t>(a >> 16), static_cast<uint16_t>(b >> 16))} << 16;
}
template <class F>
inline uint32_t pair(F&& f, uint32_t a, uint32_t b, uint32_t c) {
  return uint32_t{f(static_cast<uint16_t>(a), static_cast<uint16_t>(b), static_cast<uint16_t>(c))} |
         uint32_t{f(static_cast<uint16_t>(a >> 16), static_cast<uint16_t>(b >> 16), static_cast<uint16_t>(c >> 16))}
             << 16;
}

}  // namespace heed::simulator
