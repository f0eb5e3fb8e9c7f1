// cvt. Every conversion goes through an exact value, which is an integer or a double (a double holds f16, bf16, tf32
// and f32 exactly), and is rounded once from it by integer arithmetic. The warp's fast paths give the same bits.
#include "simulator/conversions.h"

#include <cmath>

#include "simulator/clones.h"

namespace heed::simulator {
namespace {

// `mantissa` is the number of explicit bits. The smallest normal number is 2^min_exponent, and infinity's exponent
// follows the largest one.
struct Format {
  int mantissa, min_exponent, max_exponent;
};
constexpr Format format_f16{10, -14, 15};
constexpr Format format_bf16{7, -126, 127};
constexpr Format format_tf32{10, -126, 127};
constexpr Format format_f32{23, -126, 127};
constexpr Format format_f64{52, -1022, 1023};

// Returns true if a magnitude is rounded up, given the last bit kept and the dropped part compared with one half of
// that bit.
bool rounds_up(Rounding rounding, bool negative, bool odd, uint64_t dropped, uint64_t half) {
  switch (rounding) {
    case Rounding::rz:
    case Rounding::rzi:
      return false;
    case Rounding::rm:
    case Rounding::rmi:
      return negative && dropped;
    case Rounding::rp:
    case Rounding::rpi:
      return !negative && dropped;
    case Rounding::rna:
      return dropped >= half;
    default:
      return dropped > half || (dropped == half && odd);
  }
}

// Encodes ±significand · 2^exponent in the format, without the sign.
uint64_t encode(const Format& format, bool negative, uint64_t significand, int exponent, Rounding rounding) {
  if (!significand) return 0;
  const int zeros = __builtin_clzll(significand);
  significand <<= zeros;
  const int e = exponent - zeros + 63;  // exponent of the leading bit
  int shift = 63 - format.mantissa;
  if (e < format.min_exponent) shift += format.min_exponent - e;
  uint64_t kept = 0, dropped = 1, half = 2;  // less than a half if all bits are shifted out
  if (shift < 64) {
    kept = significand >> shift;
    dropped = significand & ((uint64_t{1} << shift) - 1);
    half = uint64_t{1} << (shift - 1);
  } else if (shift == 64) {
    dropped = significand;
    half = uint64_t{1} << 63;
  }
  if (rounds_up(rounding, negative, kept & 1, dropped, half)) kept++;
  const uint64_t infinity = static_cast<uint64_t>(format.max_exponent - format.min_exponent + 2) << format.mantissa;
  // The leading bit of a normal number adds one to the exponent's field; so does a carry of the rounding.
  const uint64_t bits =
      e < format.min_exponent ? kept : (static_cast<uint64_t>(e - format.min_exponent) << format.mantissa) + kept;
  if (e <= format.max_exponent && bits < infinity) return bits;
  const bool to_infinity = rounding == Rounding::rz   ? false
                           : rounding == Rounding::rm ? negative
                           : rounding == Rounding::rp ? !negative
                                                      : true;
  return to_infinity ? infinity : infinity - 1;
}

uint64_t encode(const Format& format, double value, Rounding rounding) {
  const uint64_t bits = bits_as<uint64_t>(value);
  const int field = static_cast<int>(bits >> 52 & 0x7ff);
  const uint64_t fraction = bits & ((uint64_t{1} << 52) - 1);
  const bool negative = bits >> 63;
  if (field == 0x7ff)
    return static_cast<uint64_t>(format.max_exponent - format.min_exponent + 2)
           << format.mantissa;  // NaN does not come here
  return field ? encode(format, negative, fraction | uint64_t{1} << 52, field - 1075, rounding)
               : encode(format, negative, fraction, -1074, rounding);
}

template <class Bits>
Bits encode_signed(const Format& format, double value, Rounding rounding) {
  return static_cast<Bits>(encode(format, value, rounding) |
                           (std::signbit(value) ? uint64_t{1} << (8 * sizeof(Bits) - 1) : 0));
}

uint64_t mask_of(int bytes) { return bytes >= 8 ? ~uint64_t{0} : (uint64_t{1} << (8 * bytes)) - 1; }

int64_t sign_extend(uint64_t bits, int bytes) {
  const int shift = 64 - 8 * bytes;
  return static_cast<int64_t>(bits << shift) >> shift;
}

// Saturates ±magnitude to an integer type.
uint64_t clamp_integer(Type to, bool negative, uint64_t magnitude) {
  const int width = 8 * bytes_of(to);
  if (!is_signed(to)) {
    if (negative) return 0;
    return magnitude > mask_of(bytes_of(to)) ? mask_of(bytes_of(to)) : magnitude;
  }
  const uint64_t limit = uint64_t{1} << (width - 1);  // limit of the negative numbers
  if (negative) return (0 - (magnitude > limit ? limit : magnitude)) & mask_of(bytes_of(to));
  return magnitude >= limit ? limit - 1 : magnitude;
}

uint64_t to_integer(const Conversion& conversion, double value) {
  const Type to = conversion.to;
  if (std::isnan(value)) {
    const bool wide = conversion.from == Type::f64 || bytes_of(to) == 8;
    return wide ? uint64_t{1} << (8 * bytes_of(to) - 1) : 0;
  }
  const bool negative = std::signbit(value);
  if (std::isinf(value)) return clamp_integer(to, negative, ~uint64_t{0});
  const uint64_t bits = bits_as<uint64_t>(value);
  const int field = static_cast<int>(bits >> 52 & 0x7ff);
  const uint64_t significand = (bits & ((uint64_t{1} << 52) - 1)) | (field ? uint64_t{1} << 52 : 0);
  const int exponent = (field ? field : 1) - 1075;
  if (exponent >= 0) return clamp_integer(to, negative, exponent > 11 ? ~uint64_t{0} : significand << exponent);
  const int shift = -exponent;
  uint64_t kept = 0, dropped = significand != 0, half = 2;
  if (shift <= 54) {
    kept = significand >> shift;
    dropped = significand & ((uint64_t{1} << shift) - 1);
    half = uint64_t{1} << (shift - 1);
  }
  if (rounds_up(conversion.rounding, negative, kept & 1, dropped, half)) kept++;
  return clamp_integer(to, negative, kept);
}

double round_to_integer(double value, Rounding rounding) {
  switch (rounding) {
    case Rounding::rni:
      return std::nearbyint(value);
    case Rounding::rzi:
      return std::trunc(value);
    case Rounding::rmi:
      return std::floor(value);
    case Rounding::rpi:
      return std::ceil(value);
    default:
      return value;
  }
}

double to_double(Type from, uint64_t bits, bool ftz) {
  switch (from) {
    case Type::f16:
      return f16_to_f32(static_cast<uint16_t>(bits));
    case Type::bf16:
      return bf16_to_f32(static_cast<uint16_t>(bits));
    case Type::f64:
      return bits_as<double>(bits);
    default: {
      const float value = bits_as<float>(static_cast<uint32_t>(bits));
      return ftz ? flush(value) : value;
    }
  }
}

Rounding float_rounding(Rounding rounding) { return rounding > Rounding::rna ? Rounding::rn : rounding; }

uint64_t from_double(const Conversion& conversion, double value) {
  if (conversion.rounding >= Rounding::rni) value = round_to_integer(value, conversion.rounding);
  if (conversion.saturate) value = saturate(value);
  if (conversion.relu && value <= 0) value = 0;  // including -0
  const Rounding rounding = float_rounding(conversion.rounding);
  switch (conversion.to) {
    case Type::f16:
    case Type::f16x2:
      return to_f16(value, rounding);
    case Type::bf16:
    case Type::bf16x2:
      return to_bf16(value, rounding);
    case Type::tf32:
      if (std::isnan(value)) return canonical_nan;
      return (encode(format_tf32, value, rounding) << 13) | (std::signbit(value) ? 0x80000000u : 0);
    case Type::f64:
      return bits_as<uint64_t>(value);
    default: {
      const float result = to_f32(value, rounding);
      return bits_as<uint32_t>(conversion.ftz ? flush(result) : result);
    }
  }
}

uint64_t from_integer(const Conversion& conversion, uint64_t bits) {
  const int from_bytes = bytes_of(conversion.from), to_bytes = bytes_of(conversion.to);
  const int64_t value =
      is_signed(conversion.from) ? sign_extend(bits, from_bytes) : static_cast<int64_t>(bits & mask_of(from_bytes));
  const bool negative = is_signed(conversion.from) && value < 0;
  const uint64_t magnitude = negative ? 0 - static_cast<uint64_t>(value) : static_cast<uint64_t>(value);
  if (!is_float(conversion.to)) {
    if (conversion.saturate) return clamp_integer(conversion.to, negative, magnitude);
    return static_cast<uint64_t>(value) & mask_of(to_bytes);
  }
  if (conversion.saturate) return from_double(conversion, magnitude && !negative ? 1.0 : 0.0);
  const Format& format = conversion.to == Type::f16    ? format_f16
                         : conversion.to == Type::bf16 ? format_bf16
                         : conversion.to == Type::f64  ? format_f64
                                                       : format_f32;
  const uint64_t sign = negative ? uint64_t{1} << (8 * to_bytes - 1) : 0;
  return encode(format, negative, magnitude, 0, conversion.rounding) | sign;
}

bool is_packed(Type type) { return type == Type::f16x2 || type == Type::bf16x2; }

// Returns the number of explicit bits of a floating-point type's significand.
int precision(Type type) {
  switch (type) {
    case Type::f16:
      return 10;
    case Type::bf16:
      return 7;
    case Type::tf32:
      return 10;
    case Type::f32:
      return 23;
    default:
      return 52;
  }
}

}  // namespace

// Both branches are computed and one is selected, so that loops over lanes become vectors.
float f16_to_f32(uint16_t bits) {
  const uint32_t sign = uint32_t{bits & 0x8000u} << 16;
  uint32_t u = uint32_t{bits & 0x7fffu} << 13;
  const uint32_t exponent = u & 0x0f800000;
  const float subnormal = bits_as<float>(u + 0x38800000) - 6.103515625e-05f;  // 2^-14
  u += 0x38000000;
  u = exponent == 0 ? bits_as<uint32_t>(subnormal) : u;
  u = exponent == 0x0f800000 ? u + 0x38000000 : u;
  return bits_as<float>((u & 0x7fffffff) > 0x7f800000 ? canonical_nan : u | sign);
}

uint16_t to_f16(double value, Rounding rounding) {
  if (std::isnan(value)) return canonical_nan16;
  return encode_signed<uint16_t>(format_f16, value, rounding);
}

uint16_t to_bf16(double value, Rounding rounding) {
  if (std::isnan(value)) return canonical_nan16;
  return encode_signed<uint16_t>(format_bf16, value, rounding);
}

float to_f32(double value, Rounding rounding) {
  if (std::isnan(value)) return bits_as<float>(canonical_nan);
  return bits_as<float>(encode_signed<uint32_t>(format_f32, value, rounding));
}

float to_tf32(float value, Rounding rounding) {
  if (std::isnan(value)) return bits_as<float>(canonical_nan);
  const uint32_t sign = bits_as<uint32_t>(value) & 0x80000000;
  return bits_as<float>(static_cast<uint32_t>(encode(format_tf32, value, rounding) << 13) | sign);
}

bool is_valid(const Conversion& conversion) {
  const Type to = conversion.to, from = conversion.from;
  const Rounding rounding = conversion.rounding;
  const bool to_integer_rounding = rounding >= Rounding::rni;
  if (to == Type::none || from == Type::none || to == Type::pred || from == Type::pred || is_packed(from) ||
      from == Type::tf32 || bytes_of(to) > 8 || bytes_of(from) > 8)
    return false;
  if (is_integer(to) && is_integer(from)) return rounding == Rounding::none && !conversion.relu;
  if (is_integer(to)) return to_integer_rounding;
  if (is_integer(from))
    return rounding != Rounding::none && rounding < Rounding::rna && !is_packed(to) && to != Type::tf32;
  if (is_packed(to)) return from == Type::f32 && (rounding == Rounding::rn || rounding == Rounding::rz);
  if (to == Type::tf32)
    return from == Type::f32 && (rounding == Rounding::rna || rounding == Rounding::rn || rounding == Rounding::rz);
  if (to == from) return rounding == Rounding::none || to_integer_rounding;
  const bool narrows = precision(to) < precision(from);
  if (narrows || from == Type::f16 || (from == Type::bf16 && to == Type::f16))
    return narrows || to == Type::bf16 || from == Type::bf16 ? rounding != Rounding::none && rounding < Rounding::rna
                                                             : rounding == Rounding::none;
  return rounding == Rounding::none;
}

uint64_t convert(const Conversion& conversion, uint64_t bits, uint64_t second) {
  if (is_integer(conversion.from)) return from_integer(conversion, bits);
  const double value = to_double(conversion.from, bits, conversion.ftz);
  if (is_integer(conversion.to)) return to_integer(conversion, value);
  if (!is_packed(conversion.to)) return from_double(conversion, value);
  return from_double(conversion, value) << 16 |
         from_double(conversion, to_double(conversion.from, second, conversion.ftz));
}

namespace {

void any(const Conversion& conversion, const void* from, const void* second, void* to) {
  const bool wide_from = bytes_of(conversion.from) == 8, wide_to = bytes_of(conversion.to) == 8;
  const bool packed = is_packed(conversion.to);
  for (int lane = 0; lane < 32; lane++) {
    const uint64_t a = wide_from ? static_cast<const uint64_t*>(from)[lane] : static_cast<const uint32_t*>(from)[lane];
    const uint64_t b = packed ? static_cast<const uint32_t*>(second)[lane] : 0;
    const uint64_t d = convert(conversion, a, b);
    if (wide_to)
      static_cast<uint64_t*>(to)[lane] = d;
    else
      static_cast<uint32_t*>(to)[lane] = static_cast<uint32_t>(d);
  }
}

inline uint32_t fast_f16(uint32_t bits) {
  const uint32_t sign = bits >> 16 & 0x8000, u = bits & 0x7fffffff;
  const uint32_t subnormal = bits_as<uint32_t>(bits_as<float>(u) + 0.5f) - 0x3f000000;
  const uint32_t normal = (u + 0xfff + (u >> 13 & 1) - 0x38000000) >> 13;
  const uint32_t large = u > 0x7f800000 ? 0x7fff : 0x7c00;
  const uint32_t result = u < 0x38800000 ? subnormal : u >= 0x47800000 ? large : normal;
  return u > 0x7f800000 ? canonical_nan16 : result | sign;
}

inline uint32_t fast_bf16(uint32_t bits) {
  const uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  return (bits & 0x7fffffff) > 0x7f800000 ? canonical_nan16 : rounded;
}

inline const uint32_t* words(const void* p) { return static_cast<const uint32_t*>(p); }
inline uint32_t* words(void* p) { return static_cast<uint32_t*>(p); }

HEED_CLONES void f32_to_f16_lanes(const Conversion&, const void* from, const void*, void* to) {
  for (int lane = 0; lane < 32; lane++) words(to)[lane] = fast_f16(words(from)[lane]);
}
HEED_CLONES void f32_to_bf16_lanes(const Conversion&, const void* from, const void*, void* to) {
  for (int lane = 0; lane < 32; lane++) words(to)[lane] = fast_bf16(words(from)[lane]);
}
HEED_CLONES void f32_to_f16x2_lanes(const Conversion&, const void* from, const void* second, void* to) {
  for (int lane = 0; lane < 32; lane++)
    words(to)[lane] = fast_f16(words(from)[lane]) << 16 | fast_f16(words(second)[lane]);
}
HEED_CLONES void f32_to_bf16x2_lanes(const Conversion&, const void* from, const void* second, void* to) {
  for (int lane = 0; lane < 32; lane++)
    words(to)[lane] = fast_bf16(words(from)[lane]) << 16 | fast_bf16(words(second)[lane]);
}
HEED_CLONES void f16_to_f32_lanes(const Conversion&, const void* from, const void*, void* to) {
  for (int lane = 0; lane < 32; lane++) {
    const uint32_t bits = words(from)[lane];
    const uint32_t sign = (bits & 0x8000u) << 16;
    const uint32_t shifted = (bits & 0x7fffu) << 13;
    const uint32_t exponent = shifted & 0x0f800000;
    const uint32_t subnormal = bits_as<uint32_t>(bits_as<float>(shifted + 0x38800000) - 6.103515625e-05f);
    const uint32_t normal = exponent == 0 ? subnormal : shifted + 0x38000000;
    const uint32_t u = exponent == 0x0f800000 ? shifted + 0x70000000 : normal;
    words(to)[lane] = u > 0x7f800000 ? canonical_nan : u | sign;
  }
}
HEED_CLONES void bf16_to_f32_lanes(const Conversion&, const void* from, const void*, void* to) {
  for (int lane = 0; lane < 32; lane++) {
    const uint32_t bits = words(from)[lane] << 16;
    words(to)[lane] = (bits & 0x7fffffff) > 0x7f800000 ? canonical_nan : bits;
  }
}
HEED_CLONES void s32_to_f32_lanes(const Conversion&, const void* from, const void*, void* to) {
  for (int lane = 0; lane < 32; lane++)
    words(to)[lane] = bits_as<uint32_t>(static_cast<float>(static_cast<int32_t>(words(from)[lane])));
}
HEED_CLONES void u32_to_f32_lanes(const Conversion&, const void* from, const void*, void* to) {
  for (int lane = 0; lane < 32; lane++)  // exact in a double, and rounded once from it
    words(to)[lane] = bits_as<uint32_t>(static_cast<float>(static_cast<double>(words(from)[lane])));
}
HEED_CLONES void s32_to_64_lanes(const Conversion&, const void* from, const void*, void* to) {
  for (int lane = 0; lane < 32; lane++) static_cast<int64_t*>(to)[lane] = static_cast<int32_t>(words(from)[lane]);
}
HEED_CLONES void u32_to_64_lanes(const Conversion&, const void* from, const void*, void* to) {
  for (int lane = 0; lane < 32; lane++) static_cast<uint64_t*>(to)[lane] = words(from)[lane];
}
HEED_CLONES void from_64_to_32_lanes(const Conversion&, const void* from, const void*, void* to) {
  for (int lane = 0; lane < 32; lane++)
    words(to)[lane] = static_cast<uint32_t>(static_cast<const uint64_t*>(from)[lane]);
}
HEED_CLONES void to_16_lanes(const Conversion&, const void* from, const void*, void* to) {
  for (int lane = 0; lane < 32; lane++) words(to)[lane] = words(from)[lane] & 0xffff;
}
HEED_CLONES void f32_to_f64_lanes(const Conversion&, const void* from, const void*, void* to) {
  for (int lane = 0; lane < 32; lane++)
    static_cast<double*>(to)[lane] = static_cast<double>(static_cast<const float*>(from)[lane]);
}
HEED_CLONES void f64_to_f32_lanes(const Conversion&, const void* from, const void*, void* to) {
  for (int lane = 0; lane < 32; lane++) {
    const float value = static_cast<float>(static_cast<const double*>(from)[lane]);
    words(to)[lane] = value != value ? canonical_nan : bits_as<uint32_t>(value);
  }
}

}  // namespace

WarpConversion find_conversion(const Conversion& conversion) {
  if (!is_valid(conversion)) return nullptr;
  const Type to = conversion.to, from = conversion.from;
  const bool plain = !conversion.saturate && !conversion.ftz && !conversion.relu;
  if (plain && conversion.rounding == Rounding::rn) {
    if (from == Type::f32 && to == Type::f16) return f32_to_f16_lanes;
    if (from == Type::f32 && to == Type::bf16) return f32_to_bf16_lanes;
    if (from == Type::f32 && to == Type::f16x2) return f32_to_f16x2_lanes;
    if (from == Type::f32 && to == Type::bf16x2) return f32_to_bf16x2_lanes;
    if (from == Type::s32 && to == Type::f32) return s32_to_f32_lanes;
    if (from == Type::u32 && to == Type::f32) return u32_to_f32_lanes;
    if (from == Type::f64 && to == Type::f32) return f64_to_f32_lanes;
  }
  if (plain && conversion.rounding == Rounding::none) {
    if (from == Type::f16 && to == Type::f32) return f16_to_f32_lanes;
    if (from == Type::bf16 && to == Type::f32) return bf16_to_f32_lanes;
    if (from == Type::f32 && to == Type::f64) return f32_to_f64_lanes;
    if (from == Type::s32 && is_integer(to) && bytes_of(to) == 8) return s32_to_64_lanes;
    if ((from == Type::u32 || from == Type::b32) && is_integer(to) && bytes_of(to) == 8) return u32_to_64_lanes;
    if (is_integer(from) && bytes_of(from) == 8 && is_integer(to) && bytes_of(to) == 4) return from_64_to_32_lanes;
    if (is_integer(from) && bytes_of(from) == 4 && is_integer(to) && bytes_of(to) == 2) return to_16_lanes;
  }
  return any;
}

}  // namespace heed::simulator
