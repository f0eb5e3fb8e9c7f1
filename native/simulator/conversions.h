// cvt: between the integer and floating-point types, with every rounding, .sat, .ftz and .relu.
#pragma once
#include <cstdint>

#include "simulator/types.h"

namespace heed::simulator {

struct Conversion {
  Type to = Type::none;
  Type from = Type::none;
  Rounding rounding = Rounding::none;
  bool saturate = false;  // .sat: into the range of an integer (implied from floating point), into [0, 1] of a number
  bool ftz = false;
  bool relu = false;  // negative results become 0; NaN stays
};

// One value: `bits` holds it in its low bits; those of the result above its type's width are zero. To a packed type
// (cvt.rn.bf16x2.f32 d, a, b) `second` is b, which becomes the lower half.
uint64_t convert(const Conversion& conversion, uint64_t bits, uint64_t second = 0);

// Whether cvt has this combination at all (an integer to an integer with a rounding is none, for instance).
bool is_valid(const Conversion& conversion);

// A warp: `from` and `second` point to uint64_t[32] where the source type has 64 bits, else to uint32_t[32]; `to`
// likewise. All 32 lanes are computed. Fast for what kernels use (f32 ↔ f16, bf16, s32, u32; widening integers).
// The executor asks for the function once an instruction; null if the combination is not valid.
using WarpConversion = void (*)(const Conversion&, const void* from, const void* second, void* to);
WarpConversion find_conversion(const Conversion& conversion);

// Building blocks, for other semantics and their tests.
float f16_to_f32(uint16_t bits);
inline float bf16_to_f32(uint16_t bits) { return bits_as<float>(uint32_t{bits} << 16); }
// From double, rounded once (a NaN becomes canonical); rn, rz, rm, rp; rna for tf32.
uint16_t to_f16(double value, Rounding rounding = Rounding::rn);
uint16_t to_bf16(double value, Rounding rounding = Rounding::rn);
float to_f32(double value, Rounding rounding = Rounding::rn);
float to_tf32(float value, Rounding rounding = Rounding::rna);  // the low 13 bits are zero

}  // namespace heed::simulator
