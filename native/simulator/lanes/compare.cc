// setp and set on integers, f32 and f64.
#include "simulator/lanes/lanes_isa.h"

namespace heed::simulator::HEED_ISA {

namespace {

template <Comparison C, class T>
HEED_INLINE bool holds(T a, T b) {
  const bool unordered = a != a || b != b;
  switch (C) {
    case Comparison::eq:
      return a == b;
    case Comparison::ne:
      return !unordered && a != b;
    case Comparison::lt:
    case Comparison::lo:
      return a < b;
    case Comparison::le:
    case Comparison::ls:
      return a <= b;
    case Comparison::gt:
    case Comparison::hi:
      return a > b;
    case Comparison::ge:
    case Comparison::hs:
      return a >= b;
    case Comparison::equ:
      return unordered || a == b;
    case Comparison::neu:
      return a != b;
    case Comparison::ltu:
      return !(a >= b);
    case Comparison::leu:
      return !(a > b);
    case Comparison::gtu:
      return !(a <= b);
    case Comparison::geu:
      return !(a < b);
    case Comparison::num:
      return !unordered;
    case Comparison::nan:
      return unordered;
  }
  return false;
}

HEED_INLINE uint32_t value(const Warp& w, Predicate p) { return w.predicates[p.index] ^ (p.negated ? full_mask : 0); }
HEED_INLINE void put(Warp& w, uint32_t index, uint32_t mask) {
  w.predicates[index] = (w.predicates[index] & ~w.mask) | (mask & w.mask);
}
HEED_INLINE uint32_t combine(uint8_t how, uint32_t a, uint32_t b) {
  return how == combine_and ? a & b : how == combine_or ? a | b : how == combine_xor ? a ^ b : a;
}

template <class T, bool Ftz, Comparison C>
HEED_INLINE uint32_t compared(Warp& w, const Instruction& in) {
  const auto* a = source<T>(w, in.a);
  const auto* b = source<T>(w, in.b);
  return where([&](int i) {
    if constexpr (Ftz) {
      return holds<C, T>(flushed(a[i]), flushed(b[i]));
    } else {
      return holds<C, T>(static_cast<T>(a[i]), static_cast<T>(b[i]));
    }
  });
}

template <class T, bool Ftz, Comparison C>
void setp(Warp& w, const Instruction& in) {
  const uint32_t mask = compared<T, Ftz, C>(w, in);
  const uint32_t other = value(w, in.q);
  put(w, in.p.index, combine(in.flags, mask, other));
  if (in.e) put(w, in.e, combine(in.flags, ~mask, other));
}

// The result is all ones, or 1.0 if it is a float (in.mode).
template <class T, bool Ftz, Comparison C>
void set(Warp& w, const Instruction& in) {
  const uint32_t mask = combine(in.flags, compared<T, Ftz, C>(w, in), value(w, in.q));
  const uint32_t yes = in.mode ? 0x3f800000 : full_mask;
  write<uint32_t>(w, in.d, [&](int i) { return mask >> i & 1 ? yes : 0u; });
}

template <class T, bool Ftz, Comparison C>
Handler pick(bool is_set) {
  return is_set ? set<T, Ftz, C> : setp<T, Ftz, C>;
}

template <class T, bool Ftz = false>
Handler find(Comparison comparison, bool is_set) {
  switch (comparison) {
#define CASE(name, as)   \
  case Comparison::name: \
    return pick<T, Ftz, Comparison::as>(is_set)
    CASE(eq, eq);
    CASE(ne, ne);
    CASE(lt, lt);
    CASE(le, le);
    CASE(gt, gt);
    CASE(ge, ge);
    CASE(lo, lt);
    CASE(ls, le);
    CASE(hi, gt);
    CASE(hs, ge);
    default:
      break;
  }
  if constexpr (std::is_floating_point_v<T>) {
    switch (comparison) {
      CASE(equ, equ);
      CASE(neu, neu);
      CASE(ltu, ltu);
      CASE(leu, leu);
      CASE(gtu, gtu);
      CASE(geu, geu);
      CASE(num, num);
      CASE(nan, nan);
      default:
        break;
#undef CASE
    }
  }
  return nullptr;
}

}  // namespace

Handler find_compare(const Operation& o) {
  const bool is_set = o.op == Op::set;
  switch (o.type) {
    case Type::s16:
      return find<int16_t>(o.comparison, is_set);
    case Type::u16:
    case Type::b16:
      return find<uint16_t>(o.comparison, is_set);
    case Type::s32:
      return find<int32_t>(o.comparison, is_set);
    case Type::u32:
    case Type::b32:
      return find<uint32_t>(o.comparison, is_set);
    case Type::s64:
      return find<int64_t>(o.comparison, is_set);
    case Type::u64:
    case Type::b64:
      return find<uint64_t>(o.comparison, is_set);
    case Type::f32:
      return o.ftz ? find<float, true>(o.comparison, is_set) : find<float>(o.comparison, is_set);
    case Type::f64:
      return find<double>(o.comparison, is_set);
    default:
      return nullptr;
  }
}

}  // namespace heed::simulator::HEED_ISA
