// Instructions that are rarer than add and mul: bit fields, permutations, approximations, 16-bit floating point,
// carries. bits.h, approx.h and half.h define what they compute; this file applies it to registers.
//
// decode.cc's `arithmetic` sets the mode and flags of an instruction: flags bit 0: .ftz; bit 1: the .wrap of shf, bmsk,
// szext, the .shiftamt of bfind, the .NaN of min and max; bit 2: .xorsign.abs; bit 3: .sat; bit 4: .relu. mode: the
// kind of prmt and testp.
#include "simulator/approx.h"
#include "simulator/arithmetic.h"
#include "simulator/bits.h"
#include "simulator/half.h"
#include "simulator/handlers.h"
#include "simulator/state.h"

namespace heed::simulator {

namespace {

using I = const Instruction&;

template <class T>
using Stored = std::conditional_t<(sizeof(T) < 4), uint32_t, T>;

template <class T>
T get(const Warp& w, Slot slot, int i) {
  return static_cast<T>(lanes<Stored<T>>(w, slot)[i]);
}

template <class D, class F>
void each(Warp& w, I in, F f) {
  Stored<D>* d = lanes<Stored<D>>(w, in.d);
  for (uint32_t m = w.mask; m; m &= m - 1) {
    const int i = __builtin_ctz(m);
    d[i] = static_cast<Stored<D>>(static_cast<D>(f(i)));
  }
}

template <class D, class A, auto F>
void one(Warp& w, I in) {
  each<D>(w, in, [&](int i) { return F(get<A>(w, in.a, i), in); });
}
template <class D, class A, class B, auto F>
void two(Warp& w, I in) {
  each<D>(w, in, [&](int i) { return F(get<A>(w, in.a, i), get<B>(w, in.b, i), in); });
}
template <class D, class A, class B, class C, auto F>
void three(Warp& w, I in) {
  each<D>(w, in, [&](int i) { return F(get<A>(w, in.a, i), get<B>(w, in.b, i), get<C>(w, in.c, i), in); });
}

// Handlers that evaluate an expression of a, b, c and the instruction.
#define ONE(D, A, expression)         \
  +[](Warp& w, I in) {                \
    each<D>(w, in, [&](int i) {       \
      const A a = get<A>(w, in.a, i); \
      return (expression);            \
    });                               \
  }
#define TWO(D, A, B, expression)      \
  +[](Warp& w, I in) {                \
    each<D>(w, in, [&](int i) {       \
      const A a = get<A>(w, in.a, i); \
      const B b = get<B>(w, in.b, i); \
      return (expression);            \
    });                               \
  }
#define THREE(D, A, B, C, expression) \
  +[](Warp& w, I in) {                \
    each<D>(w, in, [&](int i) {       \
      const A a = get<A>(w, in.a, i); \
      const B b = get<B>(w, in.b, i); \
      const C c = get<C>(w, in.c, i); \
      return (expression);            \
    });                               \
  }

bool ftz(I in) { return in.flags & 1; }
bool option(I in) { return in.flags & 2; }
bool xorsign(I in) { return in.flags & 4; }
bool sat(I in) { return in.flags & 8; }
bool relu(I in) { return in.flags & 16; }

// A handler that calls a function of whole warps.
template <auto F>
void whole(Warp& w, I in) {
  if (w.mask == full_mask) return F(lanes<float>(w, in.a), lanes<float>(w, in.d), ftz(in));
  float result[warp_size];
  F(lanes<float>(w, in.a), result, ftz(in));
  each<float>(w, in, [&](int i) { return result[i]; });
}
void whole_div(Warp& w, I in) {
  float result[warp_size];
  warp_div_approx(lanes<float>(w, in.a), lanes<float>(w, in.b), result, ftz(in));
  each<float>(w, in, [&](int i) { return result[i]; });
}

using u16 = uint16_t;
using u32 = uint32_t;
using u64 = uint64_t;
using s16 = int16_t;
using s32 = int32_t;
using s64 = int64_t;

Handler bits(std::string_view o, Type type) {
  const bool s = is_signed(type), wide = bytes_of(type) == 8, half = bytes_of(type) == 2;
  if (o == "prmt") return THREE(u32, u32, u32, u32, prmt(a, b, c, static_cast<Permute>(in.mode)));
  if (o == "bfe") {
    if (wide) return s ? THREE(s64, s64, u32, u32, bfe_s64(a, b, c)) : THREE(u64, u64, u32, u32, bfe_u64(a, b, c));
    return s ? THREE(s32, s32, u32, u32, bfe_s32(a, b, c)) : THREE(u32, u32, u32, u32, bfe_u32(a, b, c));
  }
  if (o == "brev") {
    return wide ? ONE(u64, u64, brev(a)) : ONE(u32, u32, brev(a));
  }
  if (o == "popc") return wide ? ONE(u32, u64, popc(a)) : ONE(u32, u32, popc(a));
  if (o == "clz") return wide ? ONE(u32, u64, clz(a)) : ONE(u32, u32, clz(a));
  if (o == "bfind") {
    if (wide) return s ? ONE(u32, s64, bfind_s64(a, option(in))) : ONE(u32, u64, bfind_u64(a, option(in)));
    return s ? ONE(u32, s32, bfind_s32(a, option(in))) : ONE(u32, u32, bfind_u32(a, option(in)));
  }
  if (o == "bmsk") return TWO(u32, u32, u32, bmsk(a, b, option(in)));
  if (o == "szext") {
    return s ? TWO(s32, s32, u32, szext_s32(a, b, option(in))) : TWO(u32, u32, u32, szext_u32(a, b, option(in)));
  }
  if (o == "fns") return THREE(u32, u32, u32, s32, fns(a, b, c));
  if (o == "shf.l") return THREE(u32, u32, u32, u32, shf_l(a, b, c, option(in)));
  if (o == "shf.r") return THREE(u32, u32, u32, u32, shf_r(a, b, c, option(in)));
  // mode: whether a and b are signed.
  if (o == "dp4a") return THREE(u32, u32, u32, u32, dp4a(a, b, c, in.mode & 1, in.mode & 2));
  if (o == "dp2a") return THREE(u32, u32, u32, u32, dp2a(a, b, c, in.mode & 1, in.mode & 2, in.mode & 4));
  if (o == "sad") {
    if (half) return s ? THREE(u16, s16, s16, u16, sad_s(a, b, c, 16)) : THREE(u16, u16, u16, u16, sad_u(a, b, c, 16));
    if (wide) return s ? THREE(u64, s64, s64, u64, sad_s(a, b, c, 64)) : THREE(u64, u64, u64, u64, sad_u(a, b, c, 64));
    return s ? THREE(u32, s32, s32, u32, sad_s(a, b, c, 32)) : THREE(u32, u32, u32, u32, sad_u(a, b, c, 32));
  }
  if (o == "mul24.lo") {
    return s ? TWO(u32, u32, u32, mul24_lo(a, b, true)) : TWO(u32, u32, u32, mul24_lo(a, b, false));
  }
  if (o == "mul24.hi") {
    return s ? TWO(u32, u32, u32, mul24_hi(a, b, true)) : TWO(u32, u32, u32, mul24_hi(a, b, false));
  }
  if (o == "mad24.lo") {
    return s ? THREE(u32, u32, u32, u32, mul24_lo(a, b, true) + c)
             : THREE(u32, u32, u32, u32, mul24_lo(a, b, false) + c);
  }
  if (o == "add.sat") return TWO(s32, s32, s32, saturate_s32(s64{a} + b));
  if (o == "sub.sat") return TWO(s32, s32, s32, saturate_s32(s64{a} - b));
  return nullptr;
}

// bfi has four operands: the length is a slot in e.
template <class T>
void insert_bits(Warp& w, I in) {
  each<T>(w, in, [&](int i) {
    const T a = get<T>(w, in.a, i), b = get<T>(w, in.b, i);
    const u32 position = get<u32>(w, in.c, i), length = get<u32>(w, in.e, i);
    if constexpr (sizeof(T) == 8) {
      return bfi_b64(a, b, position, length);
    } else {
      return bfi_b32(a, b, position, length);
    }
  });
}

// add.cc, addc, sub.cc, subc, mad.cc, madc: mode bit 0: reads the carry; bit 1: writes it; bit 2: subtracts; bit 3:
// multiplies first; bit 4: the upper half of the product.
template <class T>
void with_carry(Warp& w, I in) {
  using Wide = std::conditional_t<sizeof(T) == 8, unsigned __int128, u64>;
  const u32 carried = in.mode & 1 ? w.predicates[carry] : 0;
  u32 out = 0;
  each<T>(w, in, [&](int i) {
    T x = get<T>(w, in.a, i), y = get<T>(w, in.b, i);
    if (in.mode & 8) {
      const Wide product = in.flags & 32
                               ? static_cast<Wide>(static_cast<std::conditional_t<sizeof(T) == 8, __int128, s64>>(
                                                       static_cast<std::make_signed_t<T>>(x)) *
                                                   static_cast<std::make_signed_t<T>>(y))
                               : static_cast<Wide>(x) * y;
      x = static_cast<T>(in.mode & 16 ? product >> 8 * sizeof(T) : product);
      y = get<T>(w, in.c, i);
    }
    const u32 c = carried >> i & 1;
    const Wide sum = in.mode & 4 ? static_cast<Wide>(x) - y - c : static_cast<Wide>(x) + y + c;
    out |= static_cast<u32>(sum >> 8 * sizeof(T) & 1) << i;
    return static_cast<T>(sum);
  });
  if (in.mode & 2) set_predicate(w, Predicate{carry, false}, out);
}

Handler approximate(std::string_view o, Type type) {
  if (type == Type::f64) {
    if (o == "rcp.approx") return ONE(double, double, rcp_approx_f64(a));
    if (o == "rsqrt.approx") return ONE(double, double, rsqrt_approx_f64(a));
    if (o == "copysign") return TWO(double, double, double, copysign(a, b));
  }
  if (type != Type::f32) return nullptr;
  if (o == "ex2.approx") return whole<warp_ex2_approx>;
  if (o == "lg2.approx") return whole<warp_lg2_approx>;
  if (o == "rcp.approx") return whole<warp_rcp_approx>;
  if (o == "rsqrt.approx") return whole<warp_rsqrt_approx>;
  if (o == "sqrt.approx") return whole<warp_sqrt_approx>;
  if (o == "div.approx") return whole_div;
  if (o == "div.full") return TWO(float, float, float, div_full(a, b, ftz(in)));
  if (o == "sin.approx") return ONE(float, float, sin_approx(a, ftz(in)));
  if (o == "cos.approx") return ONE(float, float, cos_approx(a, ftz(in)));
  if (o == "tanh.approx") return ONE(float, float, tanh_approx(a));
  if (o == "copysign") return TWO(float, float, float, copysign(a, b));
  if (o == "min") return TWO(float, float, float, min(a, b, option(in), xorsign(in)));
  if (o == "max") return TWO(float, float, float, max(a, b, option(in), xorsign(in)));
  return nullptr;
}

// f16 and bf16. Packed says whether a register holds two of them.
template <Type T, bool Packed>
struct Halves {
  using H = Half<T>;
  using B = std::conditional_t<Packed, u32, u16>;

  template <class F>
  static B all(F f, B a) {
    if constexpr (Packed) {
      return pair(f, a);
    } else {
      return f(a);
    }
  }
  template <class F>
  static B all(F f, B a, B b) {
    if constexpr (Packed) {
      return pair(f, a, b);
    } else {
      return f(a, b);
    }
  }
  template <class F>
  static B all(F f, B a, B b, B c) {
    if constexpr (Packed) {
      return pair(f, a, b, c);
    } else {
      return f(a, b, c);
    }
  }
  static u16 finish(u16 x, I in) {
    if (ftz(in)) x = H::ftz(x);
    if (sat(in)) x = H::saturate(x);
    return x;
  }
  static u16 start(u16 x, I in) { return ftz(in) ? H::ftz(x) : x; }

  template <u16 (*F)(u16, u16)>
  static B binary(B a, B b, I in) {
    return all([&](u16 x, u16 y) { return finish(F(start(x, in), start(y, in)), in); }, a, b);
  }
  static B fused(B a, B b, B c, I in) {
    return all(
        [&](u16 x, u16 y, u16 z) {
          x = start(x, in), y = start(y, in), z = start(z, in);
          return finish(relu(in) ? H::fma_relu(x, y, z) : H::fma(x, y, z), in);
        },
        a, b, c);
  }
  static B least(B a, B b, I in) {
    return all([&](u16 x, u16 y) { return H::min(start(x, in), start(y, in), option(in), xorsign(in)); }, a, b);
  }
  static B most(B a, B b, I in) {
    return all([&](u16 x, u16 y) { return H::max(start(x, in), start(y, in), option(in), xorsign(in)); }, a, b);
  }
  template <u16 (*F)(u16)>
  static B unary(B a, I) {
    return all([](u16 x) { return F(x); }, a);
  }

  static Handler find(std::string_view o) {
    if (o == "add") return two<B, B, B, binary<H::add>>;
    if (o == "sub") return two<B, B, B, binary<H::sub>>;
    if (o == "mul") return two<B, B, B, binary<H::mul>>;
    if (o == "fma") return three<B, B, B, B, fused>;
    if (o == "min") return two<B, B, B, least>;
    if (o == "max") return two<B, B, B, most>;
    if (o == "neg") return one<B, B, unary<H::neg>>;
    if (o == "abs") return one<B, B, unary<H::abs>>;
    if (o == "ex2.approx") return one<B, B, unary<H::ex2>>;
    if (o == "tanh.approx") return one<B, B, unary<H::tanh>>;
    return nullptr;
  }
};

// Comparisons of 16-bit floats: mode is the Comparison; flags bit 6 means a packed one with two predicates p and e, and
// bit 7 means f16 (otherwise bf16). The result of set is all ones or 1.0 in each half (c has the bits of 1.0).
template <Type T>
bool holds(I in, u16 a, u16 b) {
  return compare(static_cast<Comparison>(in.mode), Half<T>::to_float(a), Half<T>::to_float(b));
}
template <Type T>
void compare_halves(Warp& w, I in) {
  const u32* a = lanes<u32>(w, in.a);
  const u32* b = lanes<u32>(w, in.b);
  u32 low = 0, high = 0;
  for (int i = 0; i < warp_size; i++) {
    low |= static_cast<u32>(holds<T>(in, static_cast<u16>(a[i]), static_cast<u16>(b[i]))) << i;
    high |= static_cast<u32>(holds<T>(in, static_cast<u16>(a[i] >> 16), static_cast<u16>(b[i] >> 16))) << i;
  }
  const bool packed = in.flags & 64;
  set_predicate(w, in.p, low);
  if (in.e) set_predicate(w, Predicate{static_cast<uint16_t>(in.e), false}, packed ? high : ~low);
}
template <Type T, bool Packed>
void set_halves(Warp& w, I in) {
  const u32 yes = in.e;  // 0xffff or the bits of 1.0
  each<u32>(w, in, [&](int i) {
    const u32 a = lanes<u32>(w, in.a)[i], b = lanes<u32>(w, in.b)[i];
    u32 result = holds<T>(in, static_cast<u16>(a), static_cast<u16>(b)) ? yes : 0;
    if (Packed && holds<T>(in, static_cast<u16>(a >> 16), static_cast<u16>(b >> 16))) result |= yes << 16;
    return result;
  });
}

template <class T>
void test_float(Warp& w, I in) {
  u32 result = 0;
  for (int i = 0; i < warp_size; i++)
    result |= static_cast<u32>(testp(static_cast<FloatTest>(in.mode), lanes<T>(w, in.a)[i])) << i;
  set_predicate(w, in.p, result);
}

}  // namespace

Handler find_scalar(std::string_view o, Type type) {
  if (o == "bfi") return bytes_of(type) == 8 ? insert_bits<u64> : insert_bits<u32>;
  if (o == "carry") return bytes_of(type) == 8 ? with_carry<u64> : with_carry<u32>;
  if (o == "testp") return type == Type::f64 ? test_float<double> : test_float<float>;
  if (o == "setp") {
    if (type == Type::f16 || type == Type::f16x2) return compare_halves<Type::f16>;
    if (type == Type::bf16 || type == Type::bf16x2) return compare_halves<Type::bf16>;
    return nullptr;
  }
  if (o == "set") {
    switch (type) {
      case Type::f16:
        return set_halves<Type::f16, false>;
      case Type::f16x2:
        return set_halves<Type::f16, true>;
      case Type::bf16:
        return set_halves<Type::bf16, false>;
      case Type::bf16x2:
        return set_halves<Type::bf16, true>;
      default:
        return nullptr;
    }
  }
  switch (type) {
    case Type::f16:
      return Halves<Type::f16, false>::find(o);
    case Type::f16x2:
      return Halves<Type::f16, true>::find(o);
    case Type::bf16:
      return Halves<Type::bf16, false>::find(o);
    case Type::bf16x2:
      return Halves<Type::bf16, true>::find(o);
    case Type::f32:
    case Type::f64:
      return approximate(o, type);
    default:
      return bits(o, type);
  }
}

}  // namespace heed::simulator
