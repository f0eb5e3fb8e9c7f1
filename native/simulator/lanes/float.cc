// f32 and f64 arithmetic. rn is the host's own rounding; the directed roundings set the host's mode for one
// instruction.
#include <cfenv>
#include <cmath>

#include "simulator/lanes/lanes_isa.h"

namespace heed::simulator::HEED_ISA {

namespace {

// These apply .ftz (f32 only) to inputs, and .ftz and .sat to results.
template <bool Ftz, class T>
HEED_INLINE T in_range(T x) {
  if constexpr (Ftz) {
    return flushed(x);
  } else {
    return x;
  }
}
template <bool Ftz, bool Sat, class T>
HEED_INLINE T result(T x) {
  x = in_range<Ftz>(x);
  if constexpr (Sat) x = x > 0 ? (x < 1 ? x : T{1}) : T{0};
  return x;
}

template <class T, bool Ftz, bool Sat>
struct Float {
  template <class F>
  HEED_INLINE static void unary(Warp& w, const Instruction& in, F f) {
    const T* a = source<T>(w, in.a);
    write<T>(w, in.d, [&](int i) { return result<Ftz, Sat>(f(in_range<Ftz>(a[i]))); });
  }
  template <class F>
  HEED_INLINE static void binary(Warp& w, const Instruction& in, F f) {
    const T* a = source<T>(w, in.a);
    const T* b = source<T>(w, in.b);
    write<T>(w, in.d, [&](int i) { return result<Ftz, Sat>(f(in_range<Ftz>(a[i]), in_range<Ftz>(b[i]))); });
  }
  __attribute__((noinline)) static void add(Warp& w, const Instruction& in) {
    binary(w, in, [](T a, T b) { return a + b; });
  }
  __attribute__((noinline)) static void sub(Warp& w, const Instruction& in) {
    binary(w, in, [](T a, T b) { return a - b; });
  }
  __attribute__((noinline)) static void mul(Warp& w, const Instruction& in) {
    binary(w, in, [](T a, T b) { return a * b; });
  }
  __attribute__((noinline)) static void div(Warp& w, const Instruction& in) {
    binary(w, in, [](T a, T b) { return a / b; });
  }
  __attribute__((noinline)) static void rcp(Warp& w, const Instruction& in) {
    unary(w, in, [](T a) { return T{1} / a; });
  }
  __attribute__((noinline)) static void sqrt(Warp& w, const Instruction& in) {
    if constexpr (sizeof(T) == 4) {
      unary(w, in, [](T a) { return __builtin_sqrtf(a); });
    } else {
      unary(w, in, [](T a) { return __builtin_sqrt(a); });
    }
  }
  __attribute__((noinline)) static void fma(Warp& w, const Instruction& in) {
    const T* a = source<T>(w, in.a);
    const T* b = source<T>(w, in.b);
    const T* c = source<T>(w, in.c);
    write<T>(w, in.d, [&](int i) {
      const T x = in_range<Ftz>(a[i]), y = in_range<Ftz>(b[i]), z = in_range<Ftz>(c[i]);
      if constexpr (sizeof(T) == 4) {
        return result<Ftz, Sat>(__builtin_fmaf(x, y, z));
      } else {
        return result<Ftz, Sat>(__builtin_fma(x, y, z));
      }
    });
  }
  static void abs(Warp& w, const Instruction& in) {
    unary(w, in, [](T a) { return std::fabs(a); });
  }
  static void neg(Warp& w, const Instruction& in) {
    unary(w, in, [](T a) { return -a; });
  }
  // Returns the number if the other operand is NaN (with Nan: NaN if either is), and orders -0 < +0.
  template <bool Nan, bool Max>
  HEED_INLINE static T extreme_of(T a, T b) {
    using Bits = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
    constexpr T nan = sizeof(T) == 4 ? static_cast<T>(__builtin_nanf("0x3fffff")) : static_cast<T>(__builtin_nan(""));
    const bool negative = bits_of<Bits>(a) < 0;
    T chosen = Max ? (a > b ? a : b) : (a < b ? a : b);
    const T equal = negative != Max ? a : b;
    chosen = a == b ? equal : chosen;
    const bool a_nan = a != a, b_nan = b != b;
    if (Nan) return a_nan || b_nan ? nan : chosen;
    chosen = a_nan ? b : chosen;
    chosen = b_nan ? a : chosen;
    return a_nan && b_nan ? nan : chosen;
  }
  template <bool Nan, bool Max>
  static void extreme(Warp& w, const Instruction& in) {
    binary(w, in, [](T a, T b) { return extreme_of<Nan, Max>(a, b); });
  }

  static Handler find(Op op, bool nan) {
    switch (op) {
      case Op::add:
        return add;
      case Op::sub:
        return sub;
      case Op::mul:
        return mul;
      case Op::div:
        return div;
      case Op::rcp:
        return rcp;
      case Op::sqrt:
        return sqrt;
      case Op::fma:
        return fma;
      case Op::abs:
        return abs;
      case Op::neg:
        return neg;
      case Op::min:
        return nan ? extreme<true, false> : extreme<false, false>;
      case Op::max:
        return nan ? extreme<true, true> : extreme<false, true>;
      default:
        return nullptr;
    }
  }
};

template <Handler F>
void rounded(Warp& w, const Instruction& in) {
  const Rounding rounding = static_cast<Rounding>(in.mode);
  std::fesetround(rounding == Rounding::rm ? FE_DOWNWARD : rounding == Rounding::rp ? FE_UPWARD : FE_TOWARDZERO);
  F(w, in);
  std::fesetround(FE_TONEAREST);
}

template <class T, bool Ftz, bool Sat>
Handler find_rounded(Op op) {
  using F = Float<T, Ftz, Sat>;
  switch (op) {
    case Op::add:
      return rounded<F::add>;
    case Op::sub:
      return rounded<F::sub>;
    case Op::mul:
      return rounded<F::mul>;
    case Op::div:
      return rounded<F::div>;
    case Op::rcp:
      return rounded<F::rcp>;
    case Op::sqrt:
      return rounded<F::sqrt>;
    case Op::fma:
      return rounded<F::fma>;
    default:
      return nullptr;
  }
}

template <class T, bool Ftz, bool Sat>
Handler find(const Operation& o) {
  return o.rounding == Rounding::rn || o.rounding == Rounding::none ? Float<T, Ftz, Sat>::find(o.op, o.nan)
                                                                    : find_rounded<T, Ftz, Sat>(o.op);
}

}  // namespace

Handler find_float(const Operation& o) {
  if (o.type == Type::f64) return find<double, false, false>(o);
  if (o.type != Type::f32) return nullptr;
  if (o.ftz) return o.saturate ? find<float, true, true>(o) : find<float, true, false>(o);
  return o.saturate ? find<float, false, true>(o) : find<float, false, false>(o);
}

}  // namespace heed::simulator::HEED_ISA
