// PTX's types and rounding modifiers, and functions that read the bits of one type as another.
#pragma once
#include <cstdint>
#include <cstring>

namespace heed::simulator {

enum class Type : uint8_t {
  none,
  pred,
  b8,
  b16,
  b32,
  b64,
  b128,
  u8,
  u16,
  u32,
  u64,
  s8,
  s16,
  s32,
  s64,
  f16,
  f16x2,
  bf16,
  bf16x2,
  tf32,
  f32,
  f64,
};

constexpr int bytes_of(Type type) {
  switch (type) {
    case Type::none:
    case Type::pred:
    case Type::b8:
    case Type::u8:
    case Type::s8:
      return 1;
    case Type::b16:
    case Type::u16:
    case Type::s16:
    case Type::f16:
    case Type::bf16:
      return 2;
    case Type::b64:
    case Type::u64:
    case Type::s64:
    case Type::f64:
      return 8;
    case Type::b128:
      return 16;
    default:
      return 4;
  }
}

constexpr bool is_signed(Type type) { return type >= Type::s8 && type <= Type::s64; }
constexpr bool is_float(Type type) { return type >= Type::f16; }
constexpr bool is_integer(Type type) { return type >= Type::b8 && type <= Type::s64; }

// rn rz rm rp rna round to a floating-point number; rni rzi rmi rpi to an integer.
enum class Rounding : uint8_t { none, rn, rz, rm, rp, rna, rni, rzi, rmi, rpi };

template <class To, class From>
inline To bits_as(From value) {
  static_assert(sizeof(To) == sizeof(From), "the same bits");
  To result;
  std::memcpy(&result, &value, sizeof result);
  return result;
}

constexpr uint32_t canonical_nan = 0x7fffffff;
constexpr uint16_t canonical_nan16 = 0x7fff;  // f16, bf16

// .ftz: subnormal numbers become zeros of the same sign.
inline float flush(float x) {
  const uint32_t bits = bits_as<uint32_t>(x);
  return (bits & 0x7f800000) ? x : bits_as<float>(bits & 0x80000000);
}

// .sat: into [0, 1]; NaN becomes 0.
inline float saturate(float x) { return x > 0 ? (x < 1 ? x : 1.0f) : 0.0f; }
inline double saturate(double x) { return x > 0 ? (x < 1 ? x : 1.0) : 0.0; }

}  // namespace heed::simulator
