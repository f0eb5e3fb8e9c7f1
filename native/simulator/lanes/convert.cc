// cvt between integers, and the common conversions to and from f32; conversions.h has the others.
#include "simulator/lanes/lanes_isa.h"

namespace heed::simulator::HEED_ISA {

namespace {

template <class To, class From>
void cast(Warp& w, const Instruction& in) {
  // A narrow signed result is extended over the register.
  using Written = std::conditional_t<std::is_signed_v<To> && (sizeof(To) < 4), int32_t, To>;
  const auto* a = source<From>(w, in.a);
  write<Written>(w, in.d, [&](int i) { return static_cast<Written>(static_cast<To>(static_cast<From>(a[i]))); });
}

template <class From>
Handler to(Type type) {
  switch (type) {
    case Type::u8:
      return cast<uint8_t, From>;
    case Type::s8:
      return cast<int8_t, From>;
    case Type::u16:
      return cast<uint16_t, From>;
    case Type::s16:
      return cast<int16_t, From>;
    case Type::u32:
      return cast<uint32_t, From>;
    case Type::s32:
      return cast<int32_t, From>;
    case Type::u64:
      return cast<uint64_t, From>;
    case Type::s64:
      return cast<int64_t, From>;
    default:
      return nullptr;
  }
}

void f32_of_f64(Warp& w, const Instruction& in) {
  const double* a = source<double>(w, in.a);
  write<float>(w, in.d, [&](int i) { return static_cast<float>(a[i]); });
}

}  // namespace

Handler find_convert(const Operation& o) {
  if (o.saturate || o.ftz) return nullptr;
  const bool exact = o.rounding == Rounding::none;
  if (is_integer(o.type) && is_integer(o.from) && exact) {
    switch (o.from) {
      case Type::u8:
        return to<uint8_t>(o.type);
      case Type::s8:
        return to<int8_t>(o.type);
      case Type::u16:
        return to<uint16_t>(o.type);
      case Type::s16:
        return to<int16_t>(o.type);
      case Type::u32:
        return to<uint32_t>(o.type);
      case Type::s32:
        return to<int32_t>(o.type);
      case Type::u64:
        return to<uint64_t>(o.type);
      case Type::s64:
        return to<int64_t>(o.type);
      default:
        return nullptr;
    }
  }
  if (o.type == Type::f32 && o.rounding == Rounding::rn) {
    if (o.from == Type::s32) return cast<float, int32_t>;
    if (o.from == Type::u32) return cast<float, uint32_t>;
    if (o.from == Type::f64) return f32_of_f64;
  }
  if (o.type == Type::f64 && o.from == Type::f32 && exact) return cast<double, float>;
  if (o.type == Type::f64 && o.from == Type::s32 && o.rounding == Rounding::rn) return cast<double, int32_t>;
  return nullptr;
}

}  // namespace heed::simulator::HEED_ISA
