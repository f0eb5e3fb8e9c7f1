// Integer and bit instructions.
#include "simulator/lanes/lanes_isa.h"

namespace heed::simulator::HEED_ISA {

namespace {

template <class T, class F>
HEED_INLINE void unary(Warp& warp, const Instruction& in, F f) {
  const auto* a = source<T>(warp, in.a);
  write<T>(warp, in.d, [&](int i) { return static_cast<T>(f(static_cast<T>(a[i]))); });
}

template <class T, class F>
HEED_INLINE void binary(Warp& warp, const Instruction& in, F f) {
  const auto* a = source<T>(warp, in.a);
  const auto* b = source<T>(warp, in.b);
  write<T>(warp, in.d, [&](int i) { return static_cast<T>(f(static_cast<T>(a[i]), static_cast<T>(b[i]))); });
}

// Wrap-around arithmetic is done in the unsigned type.
template <class T>
using Wrap = std::conditional_t<(sizeof(T) < 4), uint32_t, std::make_unsigned_t<T>>;

template <class T>
struct Twice;
template <>
struct Twice<int16_t> {
  using type = int32_t;
};
template <>
struct Twice<uint16_t> {
  using type = uint32_t;
};
template <>
struct Twice<int32_t> {
  using type = int64_t;
};
template <>
struct Twice<uint32_t> {
  using type = uint64_t;
};
template <>
struct Twice<int64_t> {
  using type = __int128;
};
template <>
struct Twice<uint64_t> {
  using type = unsigned __int128;
};

template <class T>
HEED_INLINE T high(T a, T b) {
  using D = typename Twice<T>::type;
  return static_cast<T>(static_cast<D>(a) * static_cast<D>(b) >> 8 * sizeof(T));
}

template <class T>
struct Int {
  using U = Wrap<T>;
  static void mov(Warp& w, const Instruction& in) {
    unary<T>(w, in, [](T a) { return a; });
  }
  static void add(Warp& w, const Instruction& in) {
    binary<T>(w, in, [](T a, T b) { return static_cast<U>(a) + static_cast<U>(b); });
  }
  static void sub(Warp& w, const Instruction& in) {
    binary<T>(w, in, [](T a, T b) { return static_cast<U>(a) - static_cast<U>(b); });
  }
  static void mul(Warp& w, const Instruction& in) {
    binary<T>(w, in, [](T a, T b) { return static_cast<U>(a) * static_cast<U>(b); });
  }
  static void mul_hi(Warp& w, const Instruction& in) { binary<T>(w, in, high<T>); }
  static void mad(Warp& w, const Instruction& in) {
    const auto* c = source<T>(w, in.c);
    const auto* a = source<T>(w, in.a);
    const auto* b = source<T>(w, in.b);
    write<T>(w, in.d, [&](int i) {
      return static_cast<T>(static_cast<U>(static_cast<T>(a[i])) * static_cast<U>(static_cast<T>(b[i])) +
                            static_cast<U>(c[i]));
    });
  }
  static void mad_hi(Warp& w, const Instruction& in) {
    const auto* c = source<T>(w, in.c);
    const auto* a = source<T>(w, in.a);
    const auto* b = source<T>(w, in.b);
    write<T>(w, in.d, [&](int i) {
      return static_cast<T>(static_cast<U>(high<T>(static_cast<T>(a[i]), static_cast<T>(b[i]))) + static_cast<U>(c[i]));
    });
  }
  static void mul_wide(Warp& w, const Instruction& in) {
    using D = typename Twice<T>::type;
    const auto* a = source<T>(w, in.a);
    const auto* b = source<T>(w, in.b);
    write<D>(w, in.d, [&](int i) {
      return static_cast<D>(static_cast<D>(static_cast<T>(a[i])) * static_cast<D>(static_cast<T>(b[i])));
    });
  }
  static void mad_wide(Warp& w, const Instruction& in) {
    using D = typename Twice<T>::type;
    using UD = std::make_unsigned_t<D>;
    const auto* a = source<T>(w, in.a);
    const auto* b = source<T>(w, in.b);
    const auto* c = source<D>(w, in.c);
    write<D>(w, in.d, [&](int i) {
      return static_cast<D>(
          static_cast<UD>(static_cast<D>(static_cast<T>(a[i])) * static_cast<D>(static_cast<T>(b[i]))) +
          static_cast<UD>(c[i]));
    });
  }
  static void min(Warp& w, const Instruction& in) {
    binary<T>(w, in, [](T a, T b) { return a < b ? a : b; });
  }
  static void max(Warp& w, const Instruction& in) {
    binary<T>(w, in, [](T a, T b) { return a > b ? a : b; });
  }
  static void abs(Warp& w, const Instruction& in) {
    unary<T>(w, in, [](T a) { return a < 0 ? U{0} - static_cast<U>(a) : static_cast<U>(a); });
  }
  static void neg(Warp& w, const Instruction& in) {
    unary<T>(w, in, [](T a) { return U{0} - static_cast<U>(a); });
  }
  static void and_(Warp& w, const Instruction& in) {
    binary<T>(w, in, [](T a, T b) { return a & b; });
  }
  static void or_(Warp& w, const Instruction& in) {
    binary<T>(w, in, [](T a, T b) { return a | b; });
  }
  static void xor_(Warp& w, const Instruction& in) {
    binary<T>(w, in, [](T a, T b) { return a ^ b; });
  }
  static void not_(Warp& w, const Instruction& in) {
    unary<T>(w, in, [](T a) { return ~a; });
  }
  static void cnot(Warp& w, const Instruction& in) {
    unary<T>(w, in, [](T a) { return a == 0 ? 1 : 0; });
  }
  // Amounts are 32 bits wide for every type. An amount beyond the width leaves nothing, or the sign of a signed number.
  static void shl(Warp& w, const Instruction& in) {
    const auto* a = source<T>(w, in.a);
    const uint32_t* b = source<uint32_t>(w, in.b);
    write<T>(w, in.d, [&](int i) {
      const U value = static_cast<U>(a[i]) << (b[i] & (8 * sizeof(U) - 1));
      return static_cast<T>(b[i] < 8 * sizeof(T) ? value : U{0});
    });
  }
  static void shr(Warp& w, const Instruction& in) {
    const auto* a = source<T>(w, in.a);
    const uint32_t* b = source<uint32_t>(w, in.b);
    write<T>(w, in.d, [&](int i) {
      const T value = static_cast<T>(a[i]);
      const uint32_t last = 8 * sizeof(T) - 1;
      if constexpr (std::is_signed_v<T>) {
        return static_cast<T>(value >> (b[i] < last ? b[i] : last));
      } else {
        return static_cast<T>(b[i] <= last ? value >> (b[i] & last) : T{0});
      }
    });
  }
  // The host's division faults on zero and on overflow.
  static void div(Warp& w, const Instruction& in) {
    binary<T>(w, in, [](T a, T b) -> T {
      if (b == 0) return static_cast<T>(~T{0});
      if (std::is_signed_v<T> && b == static_cast<T>(-1)) return static_cast<T>(U{0} - static_cast<U>(a));
      return static_cast<T>(a / b);
    });
  }
  static void rem(Warp& w, const Instruction& in) {
    binary<T>(w, in, [](T a, T b) -> T {
      if (b == 0) return a;
      if (std::is_signed_v<T> && b == static_cast<T>(-1)) return 0;
      return static_cast<T>(a % b);
    });
  }
  static void selp(Warp& w, const Instruction& in) {
    const auto* a = source<T>(w, in.a);
    const auto* b = source<T>(w, in.b);
    const uint32_t p = w.predicates[in.q.index] ^ (in.q.negated ? full_mask : 0);
    write<T>(w, in.d, [&](int i) { return static_cast<T>(p >> i & 1 ? a[i] : b[i]); });
  }
  static void slct(Warp& w, const Instruction& in) {
    const auto* a = source<T>(w, in.a);
    const auto* b = source<T>(w, in.b);
    const int32_t* c = source<int32_t>(w, in.c);
    write<T>(w, in.d, [&](int i) { return static_cast<T>(c[i] >= 0 ? a[i] : b[i]); });
  }
};

void lop3(Warp& w, const Instruction& in) {
  const uint32_t* a = source<uint32_t>(w, in.a);
  const uint32_t* b = source<uint32_t>(w, in.b);
  const uint32_t* c = source<uint32_t>(w, in.c);
  const uint32_t table = in.mode;
  uint32_t term[8];
  for (int k = 0; k < 8; k++) term[k] = table >> k & 1 ? full_mask : 0;
  write<uint32_t>(w, in.d, [&](int i) {
    const uint32_t x = a[i], y = b[i], z = c[i];
    const uint32_t low = (~x & ((~y & ((~z & term[0]) | (z & term[1]))) | (y & ((~z & term[2]) | (z & term[3])))));
    const uint32_t high = (x & ((~y & ((~z & term[4]) | (z & term[5]))) | (y & ((~z & term[6]) | (z & term[7])))));
    return low | high;
  });
}

template <class T>
Handler find(Op op) {
  switch (op) {
    case Op::mov:
      return Int<T>::mov;
    case Op::add:
      return Int<T>::add;
    case Op::sub:
      return Int<T>::sub;
    case Op::mul:
      return Int<T>::mul;
    case Op::mul_hi:
      return Int<T>::mul_hi;
    case Op::mad:
      return Int<T>::mad;
    case Op::mad_hi:
      return Int<T>::mad_hi;
    case Op::mul_wide:
      if constexpr (sizeof(T) < 8) return Int<T>::mul_wide;
      return nullptr;
    case Op::mad_wide:
      if constexpr (sizeof(T) < 8) return Int<T>::mad_wide;
      return nullptr;
    case Op::div:
      return Int<T>::div;
    case Op::rem:
      return Int<T>::rem;
    case Op::min:
      return Int<T>::min;
    case Op::max:
      return Int<T>::max;
    case Op::abs:
      return Int<T>::abs;
    case Op::neg:
      return Int<T>::neg;
    case Op::and_:
      return Int<T>::and_;
    case Op::or_:
      return Int<T>::or_;
    case Op::xor_:
      return Int<T>::xor_;
    case Op::not_:
      return Int<T>::not_;
    case Op::cnot:
      return Int<T>::cnot;
    case Op::shl:
      return Int<T>::shl;
    case Op::shr:
      return Int<T>::shr;
    case Op::selp:
      return Int<T>::selp;
    case Op::slct:
      return Int<T>::slct;
    default:
      return nullptr;
  }
}

// Returns true if the operation only moves bits, so that any type of the same width will do.
bool moves_bits(Op op) { return op == Op::mov || op == Op::selp || op == Op::slct; }

}  // namespace

Handler find_integer(const Operation& operation) {
  if (operation.saturate) return nullptr;
  if (operation.op == Op::lop3) return lop3;
  switch (operation.type) {
    case Type::s16:
      return find<int16_t>(operation.op);
    case Type::u16:
    case Type::b16:
      return find<uint16_t>(operation.op);
    case Type::s32:
      return find<int32_t>(operation.op);
    case Type::u32:
    case Type::b32:
      return find<uint32_t>(operation.op);
    case Type::s64:
      return find<int64_t>(operation.op);
    case Type::u64:
    case Type::b64:
      return find<uint64_t>(operation.op);
    case Type::f16:
    case Type::bf16:
      return moves_bits(operation.op) ? find<uint16_t>(operation.op) : nullptr;
    case Type::f16x2:
    case Type::bf16x2:
    case Type::tf32:
    case Type::f32:
      return moves_bits(operation.op) ? find<uint32_t>(operation.op) : nullptr;
    case Type::f64:
      return moves_bits(operation.op) ? find<uint64_t>(operation.op) : nullptr;
    default:
      return nullptr;
  }
}

}  // namespace heed::simulator::HEED_ISA
