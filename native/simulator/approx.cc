// .approx functions as polynomials in double precision. They use only additions and multiplications, so that every
// machine and every vector width gives the same bits.
#include "simulator/approx.h"

#include <cmath>
#include <limits>

#include "simulator/clones.h"
#include "simulator/types.h"

namespace heed::simulator {
namespace {

constexpr double round_magic = 6755399441055744.0;  // 1.5 · 2^52: adding it leaves the nearest integer in the low bits
const float nan32 = bits_as<float>(canonical_nan);
constexpr float infinity = std::numeric_limits<float>::infinity();

// 2^x for |x| < 1000: 2^n times the Taylor series of 2^f, |f| <= 1/2, to f^9 (7e-12).
inline double exp2_series(double x) {
  const double shifted = x + round_magic;
  const double f = x - (shifted - round_magic);
  const uint64_t n = bits_as<uint64_t>(shifted);  // the low 32 bits are the integer modulo 2^32
  const double scale = bits_as<double>((n + 1023) << 52);
  double p = 1.01780860092397e-07;
  p = p * f + 1.321548679014431e-06;
  p = p * f + 1.5252733804059841e-05;
  p = p * f + 1.540353039338161e-04;
  p = p * f + 1.3333558146428443e-03;
  p = p * f + 9.618129107628477e-03;
  p = p * f + 5.550410866482158e-02;
  p = p * f + 2.4022650695910072e-01;
  p = p * f + 6.931471805599453e-01;
  p = p * f + 1.0;
  return p * scale;
}

inline float ex2_lane(float a, bool ftz) {
  const double clamped = a < -200.0f ? -200.0 : a > 200.0f ? 200.0 : static_cast<double>(a);
  const float result = static_cast<float>(exp2_series(clamped));
  const float flushed = ftz && result < 1.17549435e-38f ? 0.0f : result;
  return a != a ? nan32 : flushed;
}

// log2 of m · 2^e, m in [√½, √2): 2/ln 2 · atanh((m - 1)/(m + 1)).
inline float lg2_lane(float a, bool ftz) {
  const float x = ftz ? flush(a) : a;
  const uint64_t bits = bits_as<uint64_t>(static_cast<double>(x));
  // Adding 2 - √2 in units of the fraction carries into the exponent if m >= √2.
  const uint64_t carried = bits + 0x00095f619980c433;
  const double e = static_cast<double>(static_cast<int32_t>(carried >> 52 & 0x7ff) - 1023);
  const double m = bits_as<double>((carried & 0x000fffffffffffff) + 0x3fe6a09e667f3bcd);
  const double t = (m - 1) / (m + 1), s = t * t;
  double p = 2.8853900817779268 / 17;
  p = p * s + 2.8853900817779268 / 15;
  p = p * s + 2.8853900817779268 / 13;
  p = p * s + 2.8853900817779268 / 11;
  p = p * s + 2.8853900817779268 / 9;
  p = p * s + 2.8853900817779268 / 7;
  p = p * s + 2.8853900817779268 / 5;
  p = p * s + 2.8853900817779268 / 3;
  p = p * s + 2.8853900817779268;
  const float result = static_cast<float>(e + p * t);
  const float special = x == 0 ? -infinity : x == infinity ? infinity : result;
  return x >= 0 ? special : nan32;
}

inline float rcp_lane(float a, bool ftz) {
  const float x = ftz ? flush(a) : a;
  const float result = 1.0f / x;
  const float flushed = ftz ? flush(result) : result;
  return a != a ? nan32 : flushed;
}

inline float sqrt_lane(float a, bool ftz) {
  const float x = ftz ? flush(a) : a;
  return x >= 0 ? __builtin_sqrtf(x) : nan32;
}

inline float rsqrt_lane(float a, bool ftz) {
  const float x = ftz ? flush(a) : a;
  const float result = static_cast<float>(1.0 / __builtin_sqrt(static_cast<double>(x)));
  return x >= 0 ? result : nan32;
}

// a · (1/b), as the manual defines it; a reciprocal below the normal numbers becomes zero.
inline float div_lane(float a, float b, bool ftz) {
  const float x = ftz ? flush(a) : a;
  const float result = x * flush(1.0f / (ftz ? flush(b) : b));
  const float flushed = ftz ? flush(result) : result;
  return result != result ? nan32 : flushed;
}

// sin(x + quadrant · π/2). x - q·π/2 is computed with π/2 in two parts, the first of which has 33 bits: exact for
// |q| < 2^20.
float sine(float a, int quadrant) {
  if (!(std::fabs(a) < infinity)) return nan32;
  double x = a;
  if (std::fabs(x) > 1e6) x = std::fmod(x, 6.283185307179586);
  const double shifted = x * 0.6366197723675814 + round_magic;
  const double q = shifted - round_magic;
  const double r = (x - q * 1.5707963267341256) - q * 6.077100506506192e-11, s = r * r;
  const int part = static_cast<int>((bits_as<uint64_t>(shifted) + static_cast<uint64_t>(quadrant)) & 3);
  double result;
  if (part & 1) {
    double p = 2.0876756987868099e-09;
    p = p * s - 2.7557319223985893e-07;
    p = p * s + 2.4801587301587302e-05;
    p = p * s - 1.3888888888888889e-03;
    p = p * s + 4.1666666666666664e-02;
    p = p * s - 0.5;
    result = p * s + 1.0;
  } else {
    double p = 1.6059043836821613e-10;
    p = p * s - 2.5052108385441720e-08;
    p = p * s + 2.7557319223985893e-06;
    p = p * s - 1.9841269841269841e-04;
    p = p * s + 8.3333333333333332e-03;
    p = p * s - 1.6666666666666666e-01;
    result = (p * s) * r + r;
  }
  return static_cast<float>(part & 2 ? -result : result);
}

// Keeps only the upper half of a double, which the approximations of doubles read and write.
double upper_half(double a) { return bits_as<double>(bits_as<uint64_t>(a) & 0xffffffff00000000); }

double flush_f64(double a) {
  const uint64_t bits = bits_as<uint64_t>(a);
  return (bits & 0x7ff0000000000000) ? a : bits_as<double>(bits & 0x8000000000000000);
}

}  // namespace

double tanh_double(double a) {
  if (a != a) return a;
  const double x = std::fabs(a);
  if (x > 20) return a > 0 ? 1 : -1;
  if (x < 0.015625) {
    const double s = a * a;
    return a * (1 - s * (1.0 / 3 - s * (2.0 / 15 - s * (17.0 / 315))));
  }
  const double e = exp2_series(x * 2.8853900817779268);
  const double t = (e - 1) / (e + 1);
  return a > 0 ? t : -t;
}

float ex2_approx(float a, bool ftz) { return ex2_lane(ftz ? flush(a) : a, ftz); }
float lg2_approx(float a, bool ftz) { return lg2_lane(a, ftz); }
float rcp_approx(float a, bool ftz) { return rcp_lane(a, ftz); }
float sqrt_approx(float a, bool ftz) { return sqrt_lane(a, ftz); }
float rsqrt_approx(float a, bool ftz) { return rsqrt_lane(a, ftz); }
float div_approx(float a, float b, bool ftz) { return div_lane(a, b, ftz); }

float sin_approx(float a, bool ftz) {
  const float x = ftz ? flush(a) : a;
  return x == 0 ? x : sine(x, 0);
}
float cos_approx(float a, bool ftz) { return sine(ftz ? flush(a) : a, 1); }

float tanh_approx(float a) {
  if (a != a) return nan32;
  const float exact = static_cast<float>(tanh_double(a));
  if (std::fabs(a) < 1e-30f) return exact;  // near the subnormal numbers, which have fewer bits
  const uint32_t bits = bits_as<uint32_t>(exact);
  return bits_as<float>((bits + 0x7ff + (bits >> 12 & 1)) & ~0xfffu);
}

float div_full(float a, float b, bool ftz) {
  const float result = ftz ? flush(flush(a) / flush(b)) : a / b;
  return result != result ? nan32 : result;
}

double rcp_approx_f64(double a) { return flush_f64(upper_half(1 / flush_f64(upper_half(a)))); }
double rsqrt_approx_f64(double a) { return upper_half(1 / std::sqrt(flush_f64(upper_half(a)))); }

HEED_CLONES void warp_ex2_approx(const float* a, float* d, bool ftz) {
  if (ftz)
    for (int lane = 0; lane < 32; lane++) d[lane] = ex2_lane(flush(a[lane]), true);
  else
    for (int lane = 0; lane < 32; lane++) d[lane] = ex2_lane(a[lane], false);
}
HEED_CLONES void warp_lg2_approx(const float* a, float* d, bool ftz) {
  for (int lane = 0; lane < 32; lane++) d[lane] = lg2_lane(a[lane], ftz);
}
HEED_CLONES void warp_rcp_approx(const float* a, float* d, bool ftz) {
  for (int lane = 0; lane < 32; lane++) d[lane] = rcp_lane(a[lane], ftz);
}
HEED_CLONES void warp_rsqrt_approx(const float* a, float* d, bool ftz) {
  for (int lane = 0; lane < 32; lane++) d[lane] = rsqrt_lane(a[lane], ftz);
}
HEED_CLONES void warp_sqrt_approx(const float* a, float* d, bool ftz) {
  for (int lane = 0; lane < 32; lane++) d[lane] = sqrt_lane(a[lane], ftz);
}
HEED_CLONES void warp_div_approx(const float* a, const float* b, float* d, bool ftz) {
  for (int lane = 0; lane < 32; lane++) d[lane] = div_lane(a[lane], b[lane], ftz);
}

}  // namespace heed::simulator
