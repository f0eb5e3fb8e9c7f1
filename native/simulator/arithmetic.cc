// Directed roundings use the host's rounding mode. Operands are read after the mode is set, and the result is kept
// before it is set back (volatile), so that the compiler cannot move the operation out.
#include "simulator/arithmetic.h"

#include <cfenv>
#include <cmath>
#include <limits>

#include "simulator/clones.h"

namespace heed::simulator {
namespace {

int mode_of(Rounding rounding) {
  switch (rounding) {
    case Rounding::rz:
      return FE_TOWARDZERO;
    case Rounding::rm:
      return FE_DOWNWARD;
    case Rounding::rp:
      return FE_UPWARD;
    default:
      return FE_TONEAREST;
  }
}

template <class T>
T canonical(T value) {
  if (value == value) return value;
  if constexpr (sizeof(T) == 4)
    return bits_as<float>(canonical_nan);
  else
    return bits_as<double>(uint64_t{0x7fffffffffffffff});
}

template <class T, class F>
T rounded(Rounding rounding, F&& operation, T a, T b, T c = 0) {
  volatile T x = a, y = b, z = c, result;
  const int mode = mode_of(rounding);
  if (mode != FE_TONEAREST) std::fesetround(mode);
  result = operation(x, y, z);
  if (mode != FE_TONEAREST) std::fesetround(FE_TONEAREST);
  return canonical<T>(result);
}

template <class T>
T select(T a, T b, bool max) {
  if (a != a || b != b) return a != a && b != b ? canonical(a) : a != a ? b : a;
  const bool a_first = a < b || (a == b && std::signbit(a));
  return a_first == max ? b : a;
}

float select(float a, float b, bool max, bool nan, bool xorsign_abs) {
  if (nan && (a != a || b != b)) return bits_as<float>(canonical_nan);
  if (!xorsign_abs) return select(a, b, max);
  const uint32_t sign = (bits_as<uint32_t>(a) ^ bits_as<uint32_t>(b)) & 0x80000000;
  const float result = select(std::fabs(a), std::fabs(b), max);
  return result != result ? result : bits_as<float>(bits_as<uint32_t>(result) | sign);
}

template <class T>
bool compare_numbers(Comparison comparison, T a, T b) {
  const bool nan = a != a || b != b;
  switch (comparison) {
    case Comparison::eq:
      return a == b;
    case Comparison::ne:
      return !nan && a != b;
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
      return nan || a == b;
    case Comparison::neu:
      return nan || a != b;
    case Comparison::ltu:
      return nan || a < b;
    case Comparison::leu:
      return nan || a <= b;
    case Comparison::gtu:
      return nan || a > b;
    case Comparison::geu:
      return nan || a >= b;
    case Comparison::num:
      return !nan;
    case Comparison::nan:
      return nan;
  }
  return false;
}

template <class T>
bool test_number(FloatTest test, T a) {
  const T magnitude = std::fabs(a);
  const bool infinite = magnitude == std::numeric_limits<T>::infinity();
  switch (test) {
    case FloatTest::finite:
      return a == a && !infinite;
    case FloatTest::infinite:
      return infinite;
    case FloatTest::number:
      return a == a;
    case FloatTest::notanumber:
      return a != a;
    case FloatTest::normal:
      return a == a && !infinite && magnitude >= std::numeric_limits<T>::min();
    case FloatTest::subnormal:
      return magnitude > 0 && magnitude < std::numeric_limits<T>::min();
  }
  return false;
}

}  // namespace

#define HEED_ARITHMETIC(T)                                                                    \
  T add(T a, T b, Rounding rounding) {                                                        \
    return rounded<T>(rounding, [](T x, T y, T) { return x + y; }, a, b);                     \
  }                                                                                           \
  T sub(T a, T b, Rounding rounding) {                                                        \
    return rounded<T>(rounding, [](T x, T y, T) { return x - y; }, a, b);                     \
  }                                                                                           \
  T mul(T a, T b, Rounding rounding) {                                                        \
    return rounded<T>(rounding, [](T x, T y, T) { return x * y; }, a, b);                     \
  }                                                                                           \
  T fma(T a, T b, T c, Rounding rounding) {                                                   \
    return rounded<T>(rounding, [](T x, T y, T z) { return std::fma(x, y, z); }, a, b, c);    \
  }                                                                                           \
  T div(T a, T b, Rounding rounding) {                                                        \
    return rounded<T>(rounding, [](T x, T y, T) { return x / y; }, a, b);                     \
  }                                                                                           \
  T rcp(T a, Rounding rounding) { return div(T{1}, a, rounding); }                            \
  T sqrt(T a, Rounding rounding) {                                                            \
    return rounded<T>(rounding, [](T x, T, T) { return std::sqrt(x); }, a, T{0});             \
  }                                                                                           \
  bool compare(Comparison comparison, T a, T b) { return compare_numbers(comparison, a, b); } \
  bool testp(FloatTest test, T a) { return test_number(test, a); }
HEED_ARITHMETIC(float)
HEED_ARITHMETIC(double)
#undef HEED_ARITHMETIC

HEED_CLONES void warp_fma(const float* a, const float* b, const float* c, float* d) {
  float result[32];
  for (int lane = 0; lane < 32; lane++) result[lane] = __builtin_fmaf(a[lane], b[lane], c[lane]);
  std::memcpy(d, result, sizeof result);
}

HEED_CLONES void warp_fma(const double* a, const double* b, const double* c, double* d) {
  double result[32];
  for (int lane = 0; lane < 32; lane++) result[lane] = __builtin_fma(a[lane], b[lane], c[lane]);
  std::memcpy(d, result, sizeof result);
}

float min(float a, float b, bool nan, bool xorsign_abs) { return select(a, b, false, nan, xorsign_abs); }
float max(float a, float b, bool nan, bool xorsign_abs) { return select(a, b, true, nan, xorsign_abs); }
double min(double a, double b) { return select(a, b, false); }
double max(double a, double b) { return select(a, b, true); }

}  // namespace heed::simulator
