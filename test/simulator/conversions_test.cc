// Compares cvt with rounding by definition: every 16-bit number, the midpoints between them and the numbers next to
// those; all integer types at their edges.
#include "simulator/conversions.h"

#include "check.h"
#include "oracle.h"

using namespace heed::simulator;

namespace {

const Rounding directions[] = {Rounding::rn, Rounding::rz, Rounding::rm, Rounding::rp};
constexpr double infinity = std::numeric_limits<double>::infinity();

bool same(float a, float b) { return bits_as<uint32_t>(a) == bits_as<uint32_t>(b); }

uint32_t one_lane(const Conversion& conversion, uint32_t bits, uint32_t second = 0) {
  uint32_t from[32], seconds[32], to[32];
  std::fill_n(from, 32, bits);
  std::fill_n(seconds, 32, second);
  find_conversion(conversion)(conversion, from, seconds, to);
  for (uint32_t lane : to)
    if (lane != to[0]) return ~to[0];
  return to[0];
}

void check_narrowing(Type type, double value) {
  const Format16& format = format_of(type);
  for (const Rounding rounding : directions) {
    const uint16_t expected = format.round(value, rounding);
    const uint16_t got = type == Type::f16 ? to_f16(value, rounding) : to_bf16(value, rounding);
    if (got != expected)
      heed::test::report("%.17g, rounding %d: got %04x, expected %04x", value, static_cast<int>(rounding), got,
                         expected);
    if (static_cast<double>(static_cast<float>(value)) != value) continue;
    Conversion conversion{type, Type::f32, rounding};
    const uint32_t bits = bits_as<uint32_t>(static_cast<float>(value));
    EXPECT(convert(conversion, bits) == expected);
    EXPECT(one_lane(conversion, bits) == expected);
  }
}

void check_halves(Type type) {
  const Format16& format = format_of(type);
  for (uint32_t bits = 0; bits < 65536; bits++) {
    const uint16_t half = static_cast<uint16_t>(bits);
    const Conversion widen{Type::f32, type};
    if (format.is_nan(half)) {
      EXPECT(convert(widen, bits) == canonical_nan && one_lane(widen, bits) == canonical_nan);
      continue;
    }
    const float value = static_cast<float>(format.value(half));
    EXPECT(same(bits_as<float>(static_cast<uint32_t>(convert(widen, bits))), value));
    EXPECT(same(bits_as<float>(one_lane(widen, bits | 0xabcd0000)), value));  // the bits above are not read
    EXPECT((type == Type::f16 ? to_f16(value) : to_bf16(value)) == half);
    if (format.is_infinite(half) || (bits & 0x7fff) == 0) continue;
    // Numbers towards the next one: halfway, and as close to either side of it as a float and a double allow.
    const double next = (bits & 0x7fff) + 1u == format.infinity() ? 2 * format.value(half) - format.value(half - 1)
                                                                  : format.value(static_cast<uint16_t>(bits + 1));
    const double middle = (format.value(half) + next) / 2;
    for (const double v :
         {middle, std::nextafter(middle, 0.0), std::nextafter(middle, 2 * middle),
          static_cast<double>(std::nextafter(static_cast<float>(middle), 0.0f)),
          static_cast<double>(std::nextafter(static_cast<float>(middle), 2 * static_cast<float>(middle))),
          (3 * format.value(half) + next) / 4})
      if (std::isfinite(v)) check_narrowing(type, v);
  }
  for (const double v : {1e-300, -1e-300, 5e-324, 1e300, -1e300, 65519.99, 65520.0, 65536.0, -65520.0, 3.3e38, -3.4e38})
    check_narrowing(type, v);
  const Conversion narrow{type, Type::f32, Rounding::rn};
  for (const uint32_t nan : {0x7f800001u, 0xffc00000u, 0x7fffffffu, 0xff800001u})
    EXPECT(convert(narrow, nan) == canonical_nan16 && one_lane(narrow, nan) == canonical_nan16);
  EXPECT(convert(narrow, 0x80000000u) == 0x8000 && one_lane(narrow, 0x80000000u) == 0x8000);
  EXPECT(one_lane(narrow, 0x7f800000u) == format.infinity() &&
         one_lane(narrow, 0xff800000u) == (format.infinity() | 0x8000u));
}

const double interesting[] = {0.0,
                              0.25,
                              0.5,
                              0.75,
                              1.0,
                              1.5,
                              2.5,
                              3.5,
                              126.5,
                              127.0,
                              127.5,
                              128.0,
                              254.5,
                              255.0,
                              255.5,
                              256.0,
                              32766.5,
                              32767.5,
                              32768.,
                              65534.5,
                              65535.0,
                              65535.5,
                              2147483646.,
                              2147483647.,
                              2147483647.5,
                              2147483648.,
                              2147483649.,
                              4294967294.5,
                              4294967295.,
                              4294967295.5,
                              4294967296.,
                              4503599627370497.5,
                              9007199254740993.,
                              9223372036854774784.,
                              9223372036854775808.,
                              18446744073709549568.,
                              18446744073709551616.,
                              1e30,
                              5e-324,
                              1e-40,
                              infinity};
const Type integers[] = {Type::u8, Type::u16, Type::u32, Type::u64, Type::s8, Type::s16, Type::s32, Type::s64};

struct Range {
  Exact low, high;
};
Range range_of(Type type) {
  const Exact span = std::ldexp(1.0, 8 * bytes_of(type));
  if (is_signed(type)) return {-span / 2, span / 2 - 1};
  return {0, span - 1};
}

uint64_t mask_of(Type type) { return ~uint64_t{0} >> (64 - 8 * bytes_of(type)); }

uint64_t integer_bits(Type type, Exact value) {
  return (value < 0 ? 0 - static_cast<uint64_t>(-value) : static_cast<uint64_t>(value)) & mask_of(type);
}

// Returns the value of the bits of an integer type.
Exact integer_value(Type type, uint64_t bits) {
  const Exact value = static_cast<Exact>(bits), span = range_of(type).high - range_of(type).low + 1;
  return value > range_of(type).high ? value - span : value;
}

void check_to_integers(Type from, double value, uint64_t bits) {
  for (const Type to : integers)
    for (const Rounding rounding : {Rounding::rni, Rounding::rzi, Rounding::rmi, Rounding::rpi}) {
      Exact integer = value;
      const Range range = range_of(to);
      if (std::fabs(value) < 4611686018427387904.0) {
        const double below = std::floor(value), above = std::ceil(value);
        integer = pick<double>(value, below, above, std::fmod(below, 2) == 0, rounding);
      }
      if (integer < range.low) integer = range.low;
      if (integer > range.high) integer = range.high;
      const uint64_t got = convert(Conversion{to, from, rounding}, bits);
      if (got != integer_bits(to, integer))
        heed::test::report("%.17g to type %d, rounding %d: got %llx", value, static_cast<int>(to),
                           static_cast<int>(rounding), static_cast<unsigned long long>(got));
    }
}

void check_from_integer(Type to, Type from, uint64_t bits, Exact value) {
  for (const Rounding rounding : directions) {
    const Conversion conversion{to, from, rounding};
    const uint64_t got = convert(conversion, bits);
    if (value == 0) {
      EXPECT(got == 0);
      continue;
    }
    uint64_t expected;
    if (to == Type::f32)
      expected = bits_as<uint32_t>(round_to<float>(value, rounding));
    else if (to == Type::f64)
      expected = bits_as<uint64_t>(round_to<double>(value, rounding));
    else
      expected = format_of(to).round(value, rounding);
    if (got != expected)
      heed::test::report("%llx of type %d to %d, rounding %d: got %llx, expected %llx",
                         static_cast<unsigned long long>(bits), static_cast<int>(from), static_cast<int>(to),
                         static_cast<int>(rounding), static_cast<unsigned long long>(got),
                         static_cast<unsigned long long>(expected));
  }
}

}  // namespace

TEST(conversions_of_every_f16) { check_halves(Type::f16); }
TEST(conversions_of_every_bf16) { check_halves(Type::bf16); }

TEST(conversions_from_floats_to_integers) {
  for (const double magnitude : interesting)
    for (const double value : {magnitude, -magnitude}) {
      check_to_integers(Type::f64, value, bits_as<uint64_t>(value));
      const float narrow = static_cast<float>(value);
      check_to_integers(Type::f32, narrow, bits_as<uint32_t>(narrow));
    }
  for (uint32_t bits = 0; bits < 65536; bits += 7) {
    if (!format_of(Type::f16).is_nan(static_cast<uint16_t>(bits)))
      check_to_integers(Type::f16, format_of(Type::f16).value(static_cast<uint16_t>(bits)), bits);
    if (!format_of(Type::bf16).is_nan(static_cast<uint16_t>(bits)))
      check_to_integers(Type::bf16, format_of(Type::bf16).value(static_cast<uint16_t>(bits)), bits);
  }
  // A NaN becomes 0, but from f64 or to 64 bits it becomes the smallest number (as bits).
  EXPECT(convert({Type::s32, Type::f32, Rounding::rzi}, canonical_nan) == 0);
  EXPECT(convert({Type::u64, Type::f32, Rounding::rzi}, canonical_nan) == 0x8000000000000000);
  EXPECT(convert({Type::s32, Type::f64, Rounding::rzi}, 0x7ff8000000000000) == 0x80000000);
  EXPECT(convert({Type::u16, Type::f64, Rounding::rzi}, 0x7ff8000000000000) == 0x8000);
}

TEST(conversions_from_integers_to_floats) {
  heed::test::Random random(1);
  for (const Type from : integers)
    for (int i = 0; i < 4000; i++) {
      uint64_t bits = random.next() >> random.below(64);
      if (i < 192) bits = (uint64_t{1} << (i % 64)) + static_cast<uint64_t>(i / 64) - 1;
      bits &= mask_of(from);
      const Exact value = integer_value(from, bits);
      for (const Type to : {Type::f32, Type::f64, Type::f16, Type::bf16}) check_from_integer(to, from, bits, value);
      if (bytes_of(from) == 4 && value != 0)
        EXPECT(one_lane({Type::f32, from, Rounding::rn}, static_cast<uint32_t>(bits)) ==
               bits_as<uint32_t>(round_to<float>(value, Rounding::rn)));
    }
}

TEST(conversions_between_integers) {
  heed::test::Random random(3);
  for (const Type from : integers)
    for (const Type to : integers)
      for (int i = 0; i < 300; i++) {
        uint64_t bits = random.next();
        if (i < 192) bits = (uint64_t{1} << (i % 64)) + static_cast<uint64_t>(i / 64) - 1;
        bits &= mask_of(from);
        const Exact value = integer_value(from, bits);
        EXPECT(convert({to, from}, bits) == integer_bits(to, value));
        const Exact clamped = std::min(std::max(value, range_of(to).low), range_of(to).high);
        EXPECT(convert({to, from, Rounding::none, true}, bits) == integer_bits(to, clamped));
        uint64_t wide[32], result[32];
        std::fill_n(wide, 32, bits);
        uint32_t narrow[32];
        std::fill_n(narrow, 32, static_cast<uint32_t>(bits));
        const Conversion conversion{to, from};
        find_conversion(conversion)(conversion, bytes_of(from) == 8 ? static_cast<void*>(wide) : narrow, nullptr,
                                    result);
        const uint64_t lane = bytes_of(to) == 8 ? result[31] : result[15] >> 32;
        EXPECT(lane == integer_bits(to, value));
      }
}

TEST(conversions_of_f64_and_tf32) {
  heed::test::Random random(2);
  for (int i = 0; i < 50000; i++) {
    const double value = std::ldexp(static_cast<double>(random.next() >> 11) * (i % 2 ? 1 : -1),
                                    static_cast<int>(random.below(320)) - 220);
    if (value == 0) continue;
    for (const Rounding rounding : directions) {
      const uint32_t expected = bits_as<uint32_t>(round_to<float>(value, rounding));
      EXPECT(convert({Type::f32, Type::f64, rounding}, bits_as<uint64_t>(value)) == expected);
    }
    const float narrow = static_cast<float>(value);
    if (!std::isfinite(narrow) || narrow == 0) continue;
    // tf32: f32 without its low 13 bits; rounded to nearest, ties away from zero.
    const uint32_t bits = bits_as<uint32_t>(narrow);
    EXPECT(convert({Type::tf32, Type::f32, Rounding::rna}, bits) == ((bits + 0x1000) & 0xffffe000));
    EXPECT(same(to_tf32(narrow), bits_as<float>((bits + 0x1000) & 0xffffe000)));
    EXPECT(convert({Type::f64, Type::f32}, bits) == bits_as<uint64_t>(static_cast<double>(narrow)));
  }
}

TEST(conversion_modifiers) {
  const auto f32 = [](const Conversion& conversion, float value) {
    return bits_as<float>(static_cast<uint32_t>(convert(conversion, bits_as<uint32_t>(value))));
  };
  // Rounding to an integer keeps the type; halves go to even, and -0.5 to -0.
  EXPECT(same(f32({Type::f32, Type::f32, Rounding::rni}, 2.5f), 2) &&
         same(f32({Type::f32, Type::f32, Rounding::rni}, -0.5f), -0.0f));
  EXPECT(same(f32({Type::f32, Type::f32, Rounding::rmi}, -2.5f), -3) &&
         same(f32({Type::f32, Type::f32, Rounding::rpi}, -2.5f), -2));
  EXPECT(same(f32({Type::f32, Type::f32, Rounding::rzi}, 3e9f), 3e9f));
  const Conversion saturated{Type::f32, Type::f32, Rounding::none, true};
  EXPECT(same(f32(saturated, 1.5f), 1) && same(f32(saturated, -1), 0) && same(f32(saturated, 0.25f), 0.25f));
  EXPECT(same(f32(saturated, NAN), 0) && same(f32(saturated, -0.0f), 0));
  const Conversion flushed{Type::f32, Type::f32, Rounding::none, false, true};
  EXPECT(same(f32(flushed, -1e-40f), -0.0f) && same(f32(flushed, 1.2e-38f), 1.2e-38f));
  EXPECT(convert({Type::f32, Type::f64, Rounding::rn, false, true}, bits_as<uint64_t>(-1e-40)) == 0x80000000);
  EXPECT(convert({Type::f64, Type::f32, Rounding::none, false, true}, bits_as<uint32_t>(1e-40f)) == 0);
  // .ftz affects only f32: subnormal f16 numbers stay.
  EXPECT(f32({Type::f32, Type::f16, Rounding::none, false, true}, bits_as<float>(1u)) == 0x1p-24f);
  Conversion relu{Type::bf16, Type::f32, Rounding::rn};
  relu.relu = true;
  EXPECT(convert(relu, bits_as<uint32_t>(-2.0f)) == 0 && convert(relu, bits_as<uint32_t>(2.0f)) == 0x4000);
  EXPECT(convert(relu, bits_as<uint32_t>(-0.0f)) == 0 && convert(relu, canonical_nan) == canonical_nan16);
  // Packed: the first source is the upper half.
  const Conversion f16x2{Type::f16x2, Type::f32, Rounding::rn}, bf16x2{Type::bf16x2, Type::f32, Rounding::rz};
  EXPECT(convert(f16x2, bits_as<uint32_t>(1.0f), bits_as<uint32_t>(-2.0f)) == 0x3c00c000);
  EXPECT(one_lane(f16x2, bits_as<uint32_t>(1.0f), bits_as<uint32_t>(-2.0f)) == 0x3c00c000);
  EXPECT(one_lane(bf16x2, bits_as<uint32_t>(1.0f), 0xbfffffff) == 0x3f80bfff);
  EXPECT(one_lane({Type::bf16x2, Type::f32, Rounding::rn}, bits_as<uint32_t>(1.0f), 0xbfffffff) == 0x3f80c000);
  // There are no such instructions.
  EXPECT(!find_conversion({Type::s32, Type::f32}) && !find_conversion({Type::f32, Type::s32}));
  EXPECT(!find_conversion({Type::f16, Type::f32}) && !find_conversion({Type::s32, Type::u32, Rounding::rn}));
  EXPECT(!find_conversion({Type::f64, Type::f32, Rounding::rn}) &&
         !find_conversion({Type::f32, Type::f32, Rounding::rn}));
}
