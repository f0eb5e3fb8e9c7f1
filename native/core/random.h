// What the random operations of all backends share.
#pragma once
#include <cstdint>

#include "core/dtype.h"

namespace heed {

// What random numbers are drawn for: the stream of Philox (words 2 and 3 of its counter). One seed gives each use
// numbers of its own, so that a dropout mask does not depend on weights that were drawn under the same seed.
constexpr uint64_t kTensorDraws = 0;  // random tensors, such as the first weights of a model
constexpr uint64_t kDropoutDraws = 1;
constexpr uint64_t kSamplingDraws = 2;

// The first and the last number of a float dtype in [low, high), between which the draws of random_uniform stay when
// they are rounded; `low` twice where the dtype has no number in the interval.
struct UniformBounds {
  float first, last;
};
UniformBounds uniform_bounds(DType dtype, float low, float high);

}  // namespace heed
