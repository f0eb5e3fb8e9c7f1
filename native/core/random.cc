#include "core/random.h"

#include <algorithm>
#include <cmath>

namespace heed {
namespace {

struct Format {
  int precision, least;  // bits of the significand; exponent of the smallest normal number
  float largest;
};

Format format_of(DType dtype) {
  if (dtype == DType::bf16) return {8, -126, 0x1.fep127f};
  if (dtype == DType::f16) return {11, -14, 65504};
  return {24, -126, 0x1.fffffep127f};
}

// Returns the largest number of the dtype that is at most x, or -inf if x is below all of them.
float floor_to(DType dtype, float x) {
  const Format format = format_of(dtype);
  if (x == 0) return x;
  const int exponent = std::max(std::ilogb(x), format.least) - format.precision + 1;
  const double number = std::ldexp(std::floor(std::ldexp(static_cast<double>(x), -exponent)), exponent);
  if (number < -static_cast<double>(format.largest)) return -HUGE_VALF;
  return std::min(static_cast<float>(number), format.largest);
}

}  // namespace

UniformBounds uniform_bounds(DType dtype, float low, float high) {
  const float first = -floor_to(dtype, -low), last = floor_to(dtype, std::nextafter(high, -HUGE_VALF));
  if (first <= last) return {first, last};
  return {low, low};
}

}  // namespace heed
