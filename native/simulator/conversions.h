// cvt: between the integer and floating-point types, with every rounding, .sat, .ftz and .relu.
#pragma once
#include <cstdint>

#include "simulator/types.h"

namespace heed::simulator {

struct Conversion {
  Type to = Type::none;
  Type from = Type::none;
  Rounding rounding = Rounding::none;
  bool saturate =
      false;  // .sat: into the range of an integer (implied if the source is floating-point), or into [0, 1]
  bool ftz = false;
  bool relu = false;  // negative results become 0; a NaN stays NaN
};

// Converts one value, which `bits` holds in its low bits; the bits of the result above its type's width are zero. If
// the target is a packed type (cvt.rn.bf16x2.f32 d, a, b), `second` is b, which becomes the lower half.
uint64_t convert(const Conversion& conversion, uint64_t bits, uint64_t second = 0);

// Returns true if cvt has this combination at all (for instance, no integer-to-integer conversion has a rounding).
bool is_valid(const Conversion& conversion);

// Converts a warp: `from` and `second` point to uint64_t[32] if the source type has 64 bits, and otherwise to
// uint32_t[32]; the same holds for `to`. All 32 lanes are computed. It is fast for the conversions that kernels use
// (f32 ↔ f16, bf16, s32, u32; widening integers). The executor looks up the function once per instruction; it is null
// if the combination is not valid.
using WarpConversion = void (*)(const Conversion&, const void* from, const void* second, void* to);
WarpConversion find_conversion(const Conversion& conversion);

// Building blocks for other instructions and their tests.
float f16_to_f32(uint16_t bits);
inline float bf16_to_f32(uint16_t bits) { return bits_as<float>(uint32_t{bits} << 16); }
// Conversions from double, rounded once (a NaN becomes canonical). The roundings are rn, rz, rm and rp, and rna for
// tf32.
uint16_t to_f16(double value, Rounding rounding = Rounding::rn);
uint16_t to_bf16(double value, Rounding rounding = Rounding::rn);
float to_f32(double value, Rounding rounding = Rounding::rn);
float to_tf32(float value, Rounding rounding = Rounding::rna);  // the low 13 bits are zero

}  // namespace heed::simulator
