// atom and red: real atomic operations of the host, because blocks run at the same time.
#include <cstring>

#include "simulator/access.h"
#include "simulator/half.h"
#include "simulator/handlers.h"

namespace heed::simulator {

namespace {

// Computes *p = f(*p) in one step and returns the old value.
template <class T, class F>
T exchange(uint8_t* pointer, F f) {
  T* p = reinterpret_cast<T*>(pointer);
  T old = __atomic_load_n(p, __ATOMIC_RELAXED);
  while (true) {
    const T next = f(old);
    if (__atomic_compare_exchange_n(p, &old, next, true, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) return old;
  }
}

// Bits is the type in memory, and Value the type of the computation.
template <class Bits, class Value, class F>
void apply(Warp& warp, const Instruction& in, F f) {
  uint8_t* pointer[warp_size];
  locate(warp, in, sizeof(Bits), Access::atomic, pointer);
  using Stored = std::conditional_t<(sizeof(Bits) < 4), uint32_t, Bits>;
  const Stored* b = lanes<Stored>(warp, in.b);
  const Stored* c = in.c == no_slot ? b : lanes<Stored>(warp, in.c);
  for (uint32_t m = warp.mask; m; m &= m - 1) {
    const int i = __builtin_ctz(m);
    const Value x = bits_as<Value>(static_cast<Bits>(b[i])), y = bits_as<Value>(static_cast<Bits>(c[i]));
    const Bits old = exchange<Bits>(
        pointer[i], [&](Bits now) { return bits_as<Bits>(static_cast<Value>(f(bits_as<Value>(now), x, y))); });
    if (in.d != no_slot) lanes<Stored>(warp, in.d)[i] = old;
  }
  observe(warp, in, pointer);
}

template <class T>
Handler find_integer(Atomic operation) {
  using U = std::make_unsigned_t<T>;
  switch (operation) {
#define CASE(name, expression)                                                                       \
  case Atomic::name:                                                                                 \
    return [](Warp& w, const Instruction& in) {                                                      \
      apply<U, T>(w, in, []([[maybe_unused]] T m, [[maybe_unused]] T b, [[maybe_unused]] T c) -> T { \
        return static_cast<T>(expression);                                                           \
      });                                                                                            \
    };
    CASE(add, static_cast<U>(m) + static_cast<U>(b))
    CASE(inc, m >= b ? 0 : m + 1)
    CASE(dec, m == 0 || m > b ? b : m - 1)
    CASE(min, m < b ? m : b)
    CASE(max, m > b ? m : b)
    CASE(and_, m & b)
    CASE(or_, m | b)
    CASE(xor_, m ^ b)
    CASE(exch, b)
    CASE(cas, m == b ? c : m)
#undef CASE
  }
  return nullptr;
}

template <class Bits, class T>
Handler find_add() {
  return [](Warp& w, const Instruction& in) { apply<Bits, T>(w, in, [](T m, T b, T) { return m + b; }); };
}

template <Type T>
Handler find_half(Atomic operation) {
  using H = Half<T>;
  switch (operation) {
    case Atomic::add:
      return [](Warp& w, const Instruction& in) {
        apply<uint16_t, uint16_t>(w, in, [](uint16_t m, uint16_t b, uint16_t) { return H::add(m, b); });
      };
    case Atomic::min:
      return [](Warp& w, const Instruction& in) {
        apply<uint16_t, uint16_t>(w, in, [](uint16_t m, uint16_t b, uint16_t) { return H::min(m, b); });
      };
    case Atomic::max:
      return [](Warp& w, const Instruction& in) {
        apply<uint16_t, uint16_t>(w, in, [](uint16_t m, uint16_t b, uint16_t) { return H::max(m, b); });
      };
    default:
      return nullptr;
  }
}

template <Type T>
Handler find_pair(Atomic operation) {
  using H = Half<T>;
  switch (operation) {
    case Atomic::add:
      return [](Warp& w, const Instruction& in) {
        apply<uint32_t, uint32_t>(w, in, [](uint32_t m, uint32_t b, uint32_t) { return pair(H::add, m, b); });
      };
    case Atomic::min:
      return [](Warp& w, const Instruction& in) {
        apply<uint32_t, uint32_t>(w, in, [](uint32_t m, uint32_t b, uint32_t) {
          return pair([](uint16_t x, uint16_t y) { return H::min(x, y); }, m, b);
        });
      };
    case Atomic::max:
      return [](Warp& w, const Instruction& in) {
        apply<uint32_t, uint32_t>(w, in, [](uint32_t m, uint32_t b, uint32_t) {
          return pair([](uint16_t x, uint16_t y) { return H::max(x, y); }, m, b);
        });
      };
    default:
      return nullptr;
  }
}

}  // namespace

Handler find_atomic(Atomic operation, Type type) {
  switch (type) {
    case Type::b16:
    case Type::u16:
      return find_integer<uint16_t>(operation);
    case Type::s32:
      return find_integer<int32_t>(operation);
    case Type::b32:
    case Type::u32:
      return find_integer<uint32_t>(operation);
    case Type::s64:
      return find_integer<int64_t>(operation);
    case Type::b64:
    case Type::u64:
      return find_integer<uint64_t>(operation);
    case Type::f32:
      return operation == Atomic::add ? find_add<uint32_t, float>() : nullptr;
    case Type::f64:
      return operation == Atomic::add ? find_add<uint64_t, double>() : nullptr;
    case Type::f16:
      return find_half<Type::f16>(operation);
    case Type::bf16:
      return find_half<Type::bf16>(operation);
    case Type::f16x2:
      return find_pair<Type::f16>(operation);
    case Type::bf16x2:
      return find_pair<Type::bf16>(operation);
    default:
      return nullptr;
  }
}

}  // namespace heed::simulator
