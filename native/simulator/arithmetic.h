// f32 and f64 operations that the host's own operators do not provide: directed roundings, div, sqrt, min and max with
// PTX's rules for NaN and signed zeros, comparisons, testp, copysign, and fma over a warp.
//
// rn is the host's own rounding: a + b, a * b, and std::fma are add.rn, mul.rn and fma.rn.
#pragma once
#include <cstdint>

#include "simulator/types.h"

namespace heed::simulator {

// The roundings are rn, rz, rm and rp.
float add(float a, float b, Rounding rounding);
float sub(float a, float b, Rounding rounding);
float mul(float a, float b, Rounding rounding);
float fma(float a, float b, float c, Rounding rounding);
float div(float a, float b, Rounding rounding);
float rcp(float a, Rounding rounding);
float sqrt(float a, Rounding rounding);
double add(double a, double b, Rounding rounding);
double sub(double a, double b, Rounding rounding);
double mul(double a, double b, Rounding rounding);
double fma(double a, double b, double c, Rounding rounding);
double div(double a, double b, Rounding rounding);
double rcp(double a, Rounding rounding);
double sqrt(double a, Rounding rounding);

// 32 lanes of fma.rn.f32, with the machine's instruction if it has one. The arrays may be identical.
void warp_fma(const float* a, const float* b, const float* c, float* d);
void warp_fma(const double* a, const double* b, const double* c, double* d);

// min and max return the number if the other operand is NaN, and the canonical NaN if both are; -0 < +0. With nan
// (.NaN) they return NaN if either is NaN. With xorsign_abs they compare the magnitudes and apply the product of the
// signs.
float min(float a, float b, bool nan = false, bool xorsign_abs = false);
float max(float a, float b, bool nan = false, bool xorsign_abs = false);
double min(double a, double b);
double max(double a, double b);

// Comparisons of setp and set on floating-point numbers. Those ending in u hold if either operand is NaN; num holds if
// neither is, and nan if either is. (Integers use the host's operators; lo ls hi hs are the unsigned ones.)
enum class Comparison : uint8_t { eq, ne, lt, le, gt, ge, equ, neu, ltu, leu, gtu, geu, num, nan, lo, ls, hi, hs };
bool compare(Comparison comparison, float a, float b);
bool compare(Comparison comparison, double a, double b);

enum class FloatTest : uint8_t { finite, infinite, number, notanumber, normal, subnormal };
bool testp(FloatTest test, float a);
bool testp(FloatTest test, double a);

inline float copysign(float sign, float magnitude) {  // PTX's order: the sign of a with the magnitude of b
  return bits_as<float>((bits_as<uint32_t>(magnitude) & 0x7fffffff) | (bits_as<uint32_t>(sign) & 0x80000000));
}
inline double copysign(double sign, double magnitude) {
  return bits_as<double>((bits_as<uint64_t>(magnitude) & ~(uint64_t{1} << 63)) |
                         (bits_as<uint64_t>(sign) & uint64_t{1} << 63));
}

}  // namespace heed::simulator
